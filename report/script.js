"use strict";

// Click a head to sort by its column, again to turn the order round. A table whose bodies belong together (an arm with its
// seeds) sorts them whole, by their first row; any other sorts its rows. Empty cells stay last either way.
for (const table of document.querySelectorAll("table.sortable")) {
  const whole = table.dataset.sorts === "bodies";
  const units = [...(whole ? table.tBodies : table.querySelectorAll("tbody > tr"))];
  if (units.length < 2) continue;
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
    });
  });

  function value(unit, column) {
    const cell = (whole ? unit.rows[0] : unit).cells[column];
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
