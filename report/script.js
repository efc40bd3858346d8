"use strict";

// The page works without this script. It adds sorting, filtering, hiding languages, and values under the pointer.

for (const table of document.querySelectorAll("table.sortable")) {
  const whole = table.dataset.sorts === "bodies";
  const units = [...(whole ? table.tBodies : table.querySelectorAll("tbody > tr"))];
  const collapses = "collapses" in table.dataset;
  if (units.length > 1) sortable(table, units, whole);
  if (collapses) collapsible(table);
  if ("filtered" in table.dataset) filterable(table, collapses ? [...table.querySelectorAll("tr.language")] : units);
}
languageBoxes(document.querySelector("#languages"));
values();
openForPrint();

// Click a header to sort by its column, click again to reverse the order. A table whose bodies are units (an arm with its
// seeds) sorts whole bodies by their first row; any other table sorts its rows. Empty cells are always last.
function sortable(table, units, whole) {
  const heads = [...table.tHead.rows[0].cells];

  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = head.classList.contains("number") ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const order = head.getAttribute("aria-sort") === first ? other : first;
      for (const each of heads) each.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", order);
      const sign = order === "ascending" ? 1 : -1;
      const sorted = [...units].sort((left, right) => compare(value(left, column), value(right, column), sign));
      (whole ? table : table.tBodies[0]).append(...sorted);
      if ("collapses" in table.dataset) for (const body of units) sortLanguages(body, column, sign);
    });
  });

  function sortLanguages(body, column, sign) {
    const rows = [...body.rows].filter((row) => row.classList.contains("language"));
    body.append(...rows.sort((left, right) => compare(value(left, column), value(right, column), sign)));
  }

  function value(unit, column) {
    const cell = (unit.rows ? unit.rows[0] : unit).cells[column];
    const written = cell.dataset.sort;
    if (written === undefined) return cell.classList.contains("number") ? null : cell.textContent.trim();
    return cell.classList.contains("number") ? Number(written) : written;
  }

  function compare(left, right, sign) {
    if (left === null || right === null) return (left === null) - (right === null);
    if (typeof left === "number" && typeof right === "number") return sign * (left - right);
    return sign * String(left).localeCompare(String(right), "en", { numeric: true });
  }
}

// A table of very many languages shows one row for each family, which a click opens to its languages.
function collapsible(table) {
  for (const body of table.tBodies) {
    if (body.rows.length < 2) continue;
    const head = body.rows[0].cells[0];
    const button = element("button", "");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    const fold = (folded) => {
      body.classList.toggle("folded", folded);
      button.setAttribute("aria-expanded", String(!folded));
    };
    button.addEventListener("click", () => fold(!body.classList.contains("folded")));
    body.fold = fold;
    fold(true);
  }
}

// A filter field above a long table: a row is shown if it contains every word in the field. The row of a language also
// has the words of its family, whose row is shown with it.
function filterable(table, units) {
  const box = document.createElement("p");
  const field = document.createElement("input");
  const count = document.createElement("span");
  box.className = "filter";
  field.type = "search";
  field.placeholder = "Filter rows";
  field.setAttribute("aria-label", `Filter the rows of ${table.closest("figure").querySelector("h3").textContent}`);
  count.setAttribute("role", "status");
  box.append(field, count);
  table.parentElement.before(box);
  const texts = new Map();
  field.addEventListener("input", filter);
  filter();

  function filter() {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const unit of units) {
      if (words.length && !texts.has(unit)) texts.set(unit, text(unit));
      unit.hidden = !words.every((word) => texts.get(unit).includes(word));
      shown += !unit.hidden;
    }
    for (const body of table.tBodies) {
      if (!body.fold) continue;
      body.fold(!words.length);
      body.rows[0].hidden = [...body.rows].slice(1).every((row) => row.hidden);
    }
    count.textContent = words.length ? `${shown} of ${units.length} rows` : `${units.length} rows`;
  }
}

// The texts that a filter searches.
function text(unit) {
  const family = unit.classList.contains("language") ? unit.parentElement.querySelector("tr.family th") : null;
  return `${unit.textContent} ${family?.textContent ?? ""}`.toLowerCase();
}

// A checkbox for each language: unchecked languages are hidden in the tables by language, the charts and the examples.
function languageBoxes(section) {
  const columns = [...document.querySelectorAll("th[data-language]")];
  const codes = [...new Set(columns.map((head) => head.dataset.language))];
  if (codes.length < 3) return;
  const set = document.createElement("fieldset");
  set.className = "chosen-languages";
  set.append(element("legend", "Languages shown on this page (averages stay those of all)"));
  for (const code of codes) {
    const label = document.createElement("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.value = code;
    label.title = columns.find((head) => head.dataset.language === code).title;
    label.append(box, code);
    set.append(label);
    box.addEventListener("change", () => {
      for (const each of document.querySelectorAll("[data-language]")) {
        if (each.dataset.language !== code) continue;
        each.toggleAttribute("hidden", !box.checked);
        if (each.tagName !== "TH") continue;
        for (const row of each.closest("table").rows) row.cells[each.cellIndex].hidden = !box.checked;
      }
    });
  }
  const every = element("button", "all or none");
  every.type = "button";
  every.addEventListener("click", () => {
    const boxes = [...set.querySelectorAll("input")];
    const on = !boxes.every((box) => box.checked);
    for (const box of boxes) if (box.checked !== on) box.click();
  });
  set.append(every);
  section.querySelector("figure").before(set);
}

// The value of the point under the pointer, or of the point selected by the arrow keys in a chart. Without the script a
// point has a title, which browsers show late and only for a pointer.
function values() {
  const tip = element("div", "");
  tip.className = "tip";
  tip.setAttribute("role", "status");
  tip.hidden = true;
  document.body.append(tip);
  let shown = null;

  document.addEventListener("pointerover", (event) => {
    const mark = event.target.closest?.(".chart .mark:not(polyline)");
    if (mark) show(mark);
    else if (shown) hide();
  });
  document.addEventListener("pointermove", (event) => {
    const canvas = event.target.closest?.(".chart")?.querySelector(".canvas");
    const found = canvas && !event.target.matches("circle") && nearestCurve(canvas, event);
    if (found) show(found.curve, found);
  });
  document.addEventListener("keydown", (event) => {
    const chart = event.target.closest?.(".chart");
    if (!chart) return;
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") hide();
    if (!step) return;
    event.preventDefault();
    const marks = [...chart.querySelectorAll(".mark")].filter((mark) => !mark.closest("[hidden]"));
    if (!marks.length) return;
    const at = marks.indexOf(shown);
    show(marks[at < 0 ? (step > 0 ? 0 : marks.length - 1) : (at + step + marks.length) % marks.length]);
  });
  document.addEventListener("focusout", hide);

  // `at`: the place and the text of one point of a curve.
  function show(mark, at) {
    if (mark === shown && !at) return;
    hide();
    keepTitle(mark);
    shown = mark;
    mark.classList.add("shown");
    tip.textContent = at ? at.text : mark.dataset.value;
    tip.hidden = false;
    const near = at ? at.place : (mark.querySelector("circle") ?? mark).getBoundingClientRect();
    const width = document.documentElement.clientWidth;
    const left = near.left + near.width / 2 - tip.offsetWidth / 2;
    const above = near.top - tip.offsetHeight - 8;
    tip.style.left = `${Math.max(8, Math.min(left, width - tip.offsetWidth - 8)) + scrollX}px`;
    tip.style.top = `${(above < 4 ? near.bottom + 8 : above) + scrollY}px`;
  }

  // Browsers would show a title as well.
  function keepTitle(mark) {
    const title = mark.querySelector("title");
    if (!title) return;
    mark.dataset.value = title.textContent;
    title.remove();
  }

  // The curve that is nearest above or below the pointer, with its value there, computed from the chart's axes.
  function nearestCurve(canvas, event) {
    const box = canvas.parentElement.getBoundingClientRect(); // its own would be that of its curves
    const x = (1000 * (event.clientX - box.left)) / box.width;
    const y = (1000 * (event.clientY - box.top)) / box.height;
    let best = null;
    for (const curve of canvas.querySelectorAll("polyline")) {
      keepTitle(curve);
      const at = heightAt(curve, x);
      if (at !== null && (!best || Math.abs(at - y) < Math.abs(best.at - y))) best = { curve, at };
    }
    if (!best) return null;
    const [name] = best.curve.dataset.value.split(": from ");
    const step = Math.round(onAxis(canvas.dataset.across, x / 1000));
    const value = onAxis(canvas.dataset.up, 1 - best.at / 1000);
    best.text = `${name}: ${Number(value.toPrecision(3))} at step ${step.toLocaleString("en")}`;
    best.place = new DOMRect(event.clientX, box.top + (best.at * box.height) / 1000 - 4, 0, 8);
    return best;
  }

  // The height of a curve at a place; null where it has none.
  function heightAt(curve, x) {
    curve.places ??= curve.getAttribute("points").split(" ").map((point) => point.split(",").map(Number));
    const after = curve.places.findIndex(([at]) => at >= x);
    if (after < 0) return null;
    if (!after) return curve.places[0][0] - x < 5 ? curve.places[0][1] : null;
    const [[left, first], [right, last]] = curve.places.slice(after - 1, after + 1);
    return first + ((last - first) * (x - left)) / (right - left || 1);
  }

  // The value at a share of an axis, "LOW HIGH" or "LOW HIGH log".
  function onAxis(axis, share) {
    const [low, high, logarithmic] = axis.split(" ");
    if (logarithmic) return low * (high / low) ** share;
    return Number(low) + (high - low) * share;
  }

  function hide() {
    shown?.classList.remove("shown");
    shown = null;
    tip.hidden = true;
  }
}

// Collapsed details are opened for printing and closed again afterwards.
function openForPrint() {
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const each of folded) each.open = true;
  });
  addEventListener("afterprint", () => {
    for (const each of folded) each.open = false;
  });
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}
