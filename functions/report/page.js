"use strict";
// Tables that sort by a click on a header, and copy as CSV. Without this script the page has all its figures.
(() => {
  // A figure's worth: its own, or the first number of its text. A dash, and what is not a number, comes last.
  const worth = (cell) => Number.parseFloat(cell.dataset.value ?? cell.textContent.replace(/[^\d.]/g, ""));
  const text = (cell) => cell.innerText.trim();
  const order = (column, numeric, down) => (one, other) => {
    const [a, b] = [one.cells[column], other.cells[column]];
    if (!numeric) {
      return text(a).localeCompare(text(b)) * (down ? -1 : 1);
    }
    const [x, y] = [worth(a), worth(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? Number.isNaN(x) - Number.isNaN(y) : (x - y) * (down ? -1 : 1);
  };

  const sortable = (table) => {
    const headers = [...table.tHead.rows[0].cells];
    headers.forEach((header, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", () => {
        const numeric = column > 0 || "value" in (table.tBodies[0].rows[0]?.cells[0].dataset ?? {});
        const was = header.getAttribute("aria-sort");
        const down = was ? was === "ascending" : column > 0;
        headers.forEach((one) => one.removeAttribute("aria-sort"));
        header.setAttribute("aria-sort", down ? "descending" : "ascending");
        table.tBodies[0].append(...[...table.tBodies[0].rows].sort(order(column, numeric, down)));
      });
    });
  };

  // A spreadsheet runs a cell that begins like a formula.
  const field = (value) => `"${(/^[=+\-@\t\r]/.test(value) ? `'${value}` : value).replaceAll('"', '""')}"`;
  const plain = (cell) => {
    const own = (cell.querySelector("[data-name]") ?? cell).textContent.trim().replace(/\s+/g, " ");
    return cell.tagName === "TD" ? own.replace(/(\d),(?=\d{3})/g, "$1").replace(/^(<?[\d.]+) ?%.*$/, "$1") : own;
  };
  // A rate makes two columns: the messages that it counts, and itself in percent.
  const columns = (cell) => {
    if (!("part" in cell.dataset)) {
      return [plain(cell)];
    }
    return cell.tagName === "TH" ? [`${plain(cell)}, messages`, `${plain(cell)}, %`] : [cell.dataset.part, plain(cell)];
  };
  const csv = (table) =>
    [...table.rows].map((row) => [...row.cells].flatMap(columns).map(field).join(",")).join("\r\n");

  const copyable = (table) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy as CSV";
    button.addEventListener("click", async () => {
      let said = "Copied";
      try {
        await navigator.clipboard.writeText(csv(table));
      } catch {
        said = "The browser does not allow it";
      }
      button.textContent = said;
      setTimeout(() => { button.textContent = "Copy as CSV"; }, 2000);
    });
    (table.closest(".scroll") ?? table).after(button);
  };

  for (const table of document.querySelectorAll("table[data-sorts]")) {
    sortable(table);
    copyable(table);
  }
  for (const code of document.querySelectorAll(".finding pre")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy the query";
    button.addEventListener("click", () => navigator.clipboard.writeText(code.textContent));
    code.after(button);
  }
})();
