"use strict";

// Draws what the server answers. Every text goes through `textContent`, so none is read as HTML.

const byId = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(1)} %`;
let task;
let latest = 0;

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) {
    made.textContent = text;
    made.dir = "auto"; // each text in the direction of its own script
  }
  return made;
}

function hint(shape) {
  return { words: " (words, between spaces)", list: " (one a line)", text: "" }[shape];
}

function describe(found) {
  task = found;
  document.title = `${task.task}: ${task.runs.join(", ")}`;
  byId("task").textContent = task.task;
  for (const field of task.fields) {
    const label = element("label");
    label.append(element("span", "", field.name.replaceAll("_", " ") + hint(field.shape)));
    const area = element("textarea");
    area.name = field.name;
    area.dir = "auto";
    area.rows = field.name === "context" || field.shape === "list" ? 5 : 2;
    label.append(area);
    byId("fields").append(label);
  }
  byId("fields").querySelector("textarea").focus();
}

function record() {
  const fields = {};
  for (const field of task.fields) {
    const text = byId("input").elements[field.name].value;
    fields[field.name] = field.shape === "list" ? text.split("\n").filter((line) => line.trim()) : text;
    if (field.shape === "words") fields[field.name] = text.split(/\s+/u).filter(Boolean);
  }
  return fields;
}

function bars(shares) {
  const list = element("ul", "bars");
  const best = Math.max(...shares.map(([, share]) => share));
  for (const [name, share] of shares) {
    const item = element("li");
    const named = element("div", share === best ? "named best" : "named");
    named.append(element("span", "", name), element("span", "", percent(share)));
    const track = element("div", "track");
    const bar = element("div", "bar");
    bar.style.width = `${100 * share}%`;
    track.append(bar);
    item.append(named, track);
    list.append(item);
  }
  return list;
}

// The place of a tag among the task's labels, with or without the B- or I- of an entity; -1 for a word outside all.
function placeOf(tag) {
  const whole = task.labels.indexOf(tag);
  return whole >= 0 ? whole : task.labels.indexOf(tag.replace(/^[BI]-/, ""));
}

function words(tokens, tags, shares) {
  const line = element("div", "words");
  line.dir = "auto"; // decided by the words, which have no direction of their own
  tokens.forEach((token, number) => {
    const place = placeOf(tags[number]);
    const word = element("span", place < 0 ? "word" : "word tagged");
    // The golden angle: neighbours among the labels have colours far apart.
    if (place >= 0) word.style.setProperty("--turn", String(Math.round((place * 137.508) % 360)));
    const sure = shares ? ` ${Math.round(100 * shares[number])}` : "";
    const tag = element("span", "tag", tags[number] + sure);
    tag.dir = "ltr";
    word.append(token, tag);
    if (shares) word.title = `${tags[number]}: ${percent(shares[number])}`;
    line.append(word);
  });
  return line;
}

function passage(text, start, end) {
  const shown = element("p", "passage");
  shown.dir = "auto";
  // The server counts code points, JavaScript UTF-16 units.
  const points = Array.from(text);
  const mark = element("mark");
  mark.textContent = points.slice(start, end).join("");
  shown.append(points.slice(0, start).join(""), mark, points.slice(end).join(""));
  return shown;
}

function said(answer, text) {
  const line = element("p", "said");
  const words = element("bdi", "", text);
  line.append(words);
  if (answer.probability !== null) line.append(" ", element("span", "share", percent(answer.probability)));
  return line;
}

function drawn(row, answer) {
  const card = element("div", "answer");
  card.append(element("h2", "", answer.run));
  const { prediction, probabilities, place } = answer;
  if (Array.isArray(prediction)) {
    const tokens = Object.values(row).find((value) => Array.isArray(value) && value.length === prediction.length);
    card.append(words(tokens, prediction, probabilities));
  } else if (Array.isArray(probabilities)) {
    const choices = Object.values(row).find((value) => Array.isArray(value));
    card.append(said(answer, choices[prediction]), bars(choices.map((choice, number) => [choice, probabilities[number]])));
  } else if (probabilities) {
    card.append(said(answer, prediction), bars(Object.entries(probabilities)));
  } else {
    const text = typeof prediction === "number" ? String(Number(prediction.toPrecision(6))) : prediction;
    card.append(said(answer, text || "no answer"));
    if (place && place[2] > place[1]) card.append(passage(row[place[0]], place[1], place[2]));
  }
  return card;
}

function complain(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
}

async function predict(event) {
  event?.preventDefault();
  const number = ++latest;
  byId("send").disabled = true;
  byId("answers").classList.add("old");
  try {
    const response = await fetch("/answer", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(record()),
    });
    const found = await response.json();
    if (number !== latest) return;
    complain(found.error ?? "");
    byId("answers").replaceChildren(...(found.answers ?? []).map((answer) => drawn(found.row, answer)));
    for (const mark of document.querySelectorAll(".passage mark")) {
      mark.parentElement.scrollTop = mark.offsetTop - mark.parentElement.clientHeight / 2;
    }
  } catch {
    complain("The server does not answer: is `make demo` still running?");
  } finally {
    if (number === latest) {
      byId("send").disabled = false;
      byId("answers").classList.remove("old");
    }
  }
}

byId("input").addEventListener("submit", predict);
byId("input").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) predict(event);
});
fetch("/task.json")
  .then((response) => response.json())
  .then(describe)
  .catch(() => complain("The server does not answer: is `make demo` still running?"));
