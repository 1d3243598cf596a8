// The table of the Compare tab: sorted here, without asking the server.
(() => {
  const cellOf = (row, column) => row.children[column];

  // Numbers by size, names by letter; rows without a value stay last. First click: largest first for
  // numbers, A first for names; second click: reversed; third click: the order of the file.
  function compare(column, direction) {
    return (a, b) => {
      const [one, other] = [a, b].map((row) => cellOf(row, column).dataset.value);
      if (!one || !other) return (one ? 0 : 1) - (other ? 0 : 1);
      const order = column === 0 ? one.localeCompare(other) : one - other;
      return direction === "ascending" ? order : -order;
    };
  }

  function next(state, column) {
    const turns = column === 0 ? ["none", "ascending", "descending"] : ["none", "descending", "ascending"];
    return turns[(turns.indexOf(state) + 1) % turns.length];
  }

  function sortBy(heading) {
    const body = heading.closest("table").tBodies[0];
    const column = heading.cellIndex;
    const direction = next(heading.getAttribute("aria-sort"), column);
    for (const each of heading.parentElement.children) each.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", direction);
    const rows = [...body.rows].sort((a, b) => a.dataset.number - b.dataset.number);
    if (direction !== "none") rows.sort(compare(column, direction));
    body.closest("table").classList.toggle("sorted", direction !== "none");
    body.append(...rows);
  }

  function mountTable(element, trigger) {
    element.addEventListener("click", (event) => {
      const button = event.target.closest("thead button");
      if (button) sortBy(button.closest("th"));
    });
    element.addEventListener("change", () => trigger("select"));
  }

  const selectedModels = () => [...document.querySelectorAll("#compare-table tbody input:checked")].map((box) => box.value);

  Object.assign(window.chip, { mountTable, selectedModels });
})();
