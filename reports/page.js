// Copying, pictures at print resolution, sorting of tables. Without it a page says the same: buttons appear with it.
"use strict";
(() => {
  document.documentElement.classList.add("js");

  const told = (button, text) => {
    const before = button.textContent;
    button.textContent = text;
    setTimeout(() => { button.textContent = before; }, 1500);
  };

  const copyBySelection = (text) => {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "aside";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  };

  for (const button of document.querySelectorAll("button[data-copy]")) {
    button.addEventListener("click", async () => {
      const text = document.getElementById(button.dataset.copy).textContent.trim().replace(/\s+/g, " ");
      try {
        await navigator.clipboard.writeText(text);
        told(button, "copied");
      } catch {
        told(button, copyBySelection(text) ? "copied" : "select it and press Ctrl-C");
      }
    });
  }

  // The figure's own file is drawn again at 300 dots an inch: a point is 1/72 inch.
  for (const button of document.querySelectorAll("button[data-png]")) {
    button.addEventListener("click", () => {
      const link = button.parentElement.querySelector("a[download$='.svg']");
      const picture = new Image();
      picture.onload = () => {
        const [, , width, height] = button.dataset.png.split(" ").map(Number);
        const canvas = document.createElement("canvas");
        canvas.width = Math.round(width / 72 * 300);
        canvas.height = Math.round(height / 72 * 300);
        const pen = canvas.getContext("2d");
        pen.fillStyle = "#fff";
        pen.fillRect(0, 0, canvas.width, canvas.height);
        pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
        const save = document.createElement("a");
        save.download = link.download.replace(/svg$/, "png");
        save.href = canvas.toDataURL("image/png");
        save.click();
      };
      picture.src = link.href;
    });
  }

  // Served by `devicelab report --serve`, each run leads to its samples and its trace.
  if ("served" in document.body.dataset) {
    for (const head of document.querySelectorAll("#all-runs tbody th, #invalid-runs tbody th")) {
      const run = head.textContent.trim();
      for (const [kind, text] of [["csv", "samples"], ["pftrace", "trace"]]) {
        const link = document.createElement("a");
        link.href = `run/${encodeURIComponent(run)}.${kind}`;
        link.textContent = text;
        head.append(" ", link);
      }
    }
  }

  const key = (row, column) => {
    const text = row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
    const number = Number(text);
    return text !== "" && Number.isFinite(number) ? number : text;
  };
  const ordered = (a, b) => {
    if (typeof a === typeof b) return typeof a === "number" ? a - b : a.localeCompare(b);
    return typeof a === "number" ? -1 : 1;
  };
  for (const head of document.querySelectorAll("table.sortable thead th")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const body = head.closest("table").tBodies[0];
      const rows = [...body.rows].sort((a, b) => ordered(key(a, head.cellIndex), key(b, head.cellIndex)));
      body.append(...(down ? rows.reverse() : rows));
    });
  }

  // Closed parts are not printed; what is open on the screen is.
  for (const region of document.querySelectorAll(".scroll")) {
    const mark = () => region.classList.toggle("wider", region.scrollWidth > region.clientWidth + 1);
    mark();
    addEventListener("resize", mark);
    for (const fold of document.querySelectorAll("details")) fold.addEventListener("toggle", mark);
  }
})();
