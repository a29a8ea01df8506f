(() => {
  "use strict";
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const twins = JSON.parse(document.getElementById("twins").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  // A finger that drags wants to scroll the page, not to zoom a figure.
  const dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom";
  const config = { displayModeBar: false, responsive: true };
  const drawn = new Set();
  let printing = false;

  const themed = (node) => {
    if (typeof node === "string") return dark.matches && !printing ? twins[node] ?? node : node;
    if (Array.isArray(node)) return node.map(themed);
    if (node && typeof node === "object") return Object.fromEntries(Object.entries(node).map(([k, v]) => [k, themed(v)]));
    return node;
  };

  const draw = (element) => {
    const { data, layout } = themed(figures[element.dataset.figure]);
    const width = printing ? (element.closest(".slices") ? 210 : 660) : undefined;
    drawn.add(element);
    return Plotly.react(element, data, { ...layout, dragmode, width, autosize: !printing }, config);
  };
  const elements = [...document.querySelectorAll("[data-figure]")];
  const drawAll = () => Promise.all(elements.map(draw));
  const redraw = () => drawn.forEach(draw);

  // Figures are drawn when they come near the screen: a page with many opens at once all the same.
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((e) => e.isIntersecting)) {
      watcher.unobserve(entry.target);
      if (!drawn.has(entry.target)) draw(entry.target);
    }
  }, { rootMargin: "800px" });
  elements.forEach((element) => watcher.observe(element));
  window.drawAllFigures = drawAll;

  dark.addEventListener("change", redraw);
  addEventListener("beforeprint", () => { printing = true; drawAll(); });
  addEventListener("afterprint", () => { printing = false; redraw(); });

  for (const group of document.querySelectorAll(".switch")) {
    group.addEventListener("change", (event) => {
      for (const [id, figure] of Object.entries(figures)) {
        if (!id.startsWith(group.dataset.figures)) continue;
        for (const trace of figure.data) if (trace.meta != null) trace.visible = trace.meta === event.target.value;
      }
      redraw();
    });
  }

  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === ""); // what has no value stays last
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const order = (row) => row.cells[column].dataset.order;
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const empty = order(a) === "" || order(b) === "";
        return compare(order(a), order(b)) * (down && !empty ? -1 : 1);
      });
      table.tBodies[0].append(...rows);
    }));
  }
})();
