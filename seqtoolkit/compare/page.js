// What the page does beyond showing: values under the pointer, lines that are hidden, tables in another order, colors.
(() => {
  const root = document.documentElement;
  const curves = JSON.parse(document.getElementById("curves").textContent);
  const names = JSON.parse(document.getElementById("names").textContent);
  const tip = document.getElementById("tip");
  const hidden = new Set();
  root.classList.add("scripted");

  document.querySelector(".plain").addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  for (const button of document.querySelectorAll(".legend button")) {
    button.addEventListener("click", () => {
      const group = button.dataset.group;
      hidden.has(group) ? hidden.delete(group) : hidden.add(group);
      button.setAttribute("aria-pressed", String(!hidden.has(group)));
      for (const each of document.querySelectorAll(`.chart [data-group="${group}"]`)) {
        each.classList.toggle("hidden", hidden.has(group));
      }
    });
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.querySelectorAll("thead th[data-column]")];
    for (const head of heads) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => sort(table, heads, head));
    }
  }

  function sort(table, heads, head) {
    const up = head.getAttribute("aria-sort") === "descending";
    for (const each of heads) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const column = Number(head.dataset.column);
    const key = (row) => row.cells[column].dataset.value;
    const rows = [...table.tBodies[0].rows].sort((first, second) => {
      const [a, b] = [key(first), key(second)];
      if (a === "" || b === "") return (a === "") - (b === "");
      const [x, y] = [Number(a), Number(b)];
      const order = Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, undefined, { numeric: true }) : x - y;
      return up ? order : -order;
    });
    table.tBodies[0].append(...rows);
  }

  const show = (value) => {
    const size = Math.abs(value);
    if (size >= 1e9 || (size > 0 && size < 1e-3)) return value.toPrecision(3);
    const digits = size < 10 ? 4 : size < 1000 ? 2 : 0;
    return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
  };

  // The place of x in ascending numbers: the index before it, and how far it is on the way to the next one.
  function locate(numbers, x) {
    if (!(numbers[0] <= x && x <= numbers[numbers.length - 1])) return null;
    let low = 0;
    let high = numbers.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      numbers[middle] <= x ? (low = middle) : (high = middle);
    }
    return high === low ? [low, 0] : [low, (x - numbers[low]) / (numbers[high] - numbers[low])];
  }

  for (const figure of document.querySelectorAll("figure[data-key]")) watch(figure, figure.querySelector("svg.chart"));

  function watch(figure, chart) {
    const lines = curves[figure.dataset.key];
    const [x0, x1] = chart.dataset.x.split(" ").map(Number);
    const [y0, y1] = chart.dataset.y.split(" ").map(Number);
    const [left, right, top, bottom] = chart.dataset.frame.split(" ").map(Number);
    const log = chart.dataset.log === "1" ? Math.log : (value) => value;
    const layer = document.createElementNS("http://www.w3.org/2000/svg", "g");
    chart.append(layer);
    const leave = () => {
      layer.replaceChildren();
      tip.hidden = true;
    };
    chart.addEventListener("pointerleave", leave);
    chart.addEventListener("pointermove", (event) => {
      const box = chart.getBoundingClientRect();
      const across = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
      const wanted = x0 + ((across - left) / (right - left)) * (x1 - x0);
      const shown = lines.filter((line) => !hidden.has(String(line.group)));
      const x = nearest(shown, wanted);
      if (x === null || across < left - 8 || across > right + 8) return leave();
      const at = left + ((x - x0) / (x1 - x0)) * (right - left);
      const parts = [element("line", { class: "cursor", x1: at, x2: at, y1: top, y2: bottom })];
      const rows = [];
      for (const line of shown) {
        const place = locate(line.x, x);
        if (place === null) continue;
        const [index, part] = place;
        const between = (values) => values[index] + part * ((values[index + 1] ?? values[index]) - values[index]);
        const [mean, low, high] = [line.mean, line.low, line.high].map(between);
        const y = bottom + ((log(mean) - log(y0)) / (log(y1) - log(y0))) * (top - bottom);
        parts.push(element("circle", { class: `dot c${line.group % 8}`, r: 4.5, cx: at, cy: y }));
        rows.push([line, mean, low, high]);
      }
      layer.replaceChildren(...parts);
      tell(event, figure.dataset.axis, x, rows.sort((a, b) => b[1] - a[1]));
    });
  }

  function nearest(lines, wanted) {
    let found = null;
    for (const line of lines) {
      for (const x of line.x) if (found === null || Math.abs(x - wanted) < Math.abs(found - wanted)) found = x;
    }
    return found;
  }

  function element(name, attributes) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  function tell(event, axis, x, rows) {
    const table = document.createElement("table");
    for (const [line, mean, low, high] of rows) {
      const row = table.insertRow();
      const swatch = document.createElement("span");
      swatch.className = `swatch c${line.group % 8} d${Math.floor(line.group / 8) % 4}`;
      row.insertCell().append(swatch);
      row.insertCell().append(names[line.group]);
      row.insertCell().append(show(mean));
      const soft = row.insertCell();
      soft.className = "soft";
      soft.append(line.kind === "line" ? "one run" : `${show(low)} to ${show(high)}`);
    }
    const head = document.createElement("strong");
    head.append(`${axis} ${x.toLocaleString("en-US", { maximumFractionDigits: x < 100 ? 2 : 0 })}`);
    tip.replaceChildren(head, table);
    tip.hidden = false;
    const gap = 16;
    const fits = event.clientX + gap + tip.offsetWidth < innerWidth;
    tip.style.left = `${fits ? event.clientX + gap : Math.max(4, event.clientX - gap - tip.offsetWidth)}px`;
    tip.style.top = `${Math.min(event.clientY + gap, innerHeight - tip.offsetHeight - 8)}px`;
  }
})();
