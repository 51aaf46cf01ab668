"use strict";
// Paints the maps: every block has one window for all its maps, and one voxel is marked in all.
(() => {
  const source = document.getElementById("map-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const n = data.matrix;
  const layers = {};
  const tables = {};
  const blocks = [...document.querySelectorAll("figure.maps")];
  let marked = null;

  for (const [kind, code] of Object.entries(data.tables)) {
    tables[kind] = Uint8Array.from(atob(code), (c) => c.charCodeAt(0));
  }

  const decode = async (name, { uri, low, high }) => {
    const image = new Image();
    image.src = uri;
    await image.decode();
    const canvas = document.createElement("canvas");
    canvas.width = image.width;
    canvas.height = image.height;
    const pen = canvas.getContext("2d", { willReadFrequently: true });
    pen.drawImage(image, 0, 0);
    const bytes = pen.getImageData(0, 0, image.width, image.height).data;
    layers[name] = (row, x, y) =>
      low + (high - low) * bytes[4 * (y * image.width + row * n + x)] / 255;
  };

  const setting = (block, name, otherwise) => {
    const input = block.querySelector(`input[data-set="${name}"]`);
    return input ? Number(input.value) : otherwise;
  };

  const valueOf = (kind, name, row, x, y) => {
    const value = layers[name](row, x, y);
    return kind === "error" ? value - layers.truth(row, x, y) : value;
  };

  const windowOf = (block) => {
    const high = setting(block, "high", 1);
    if (block.dataset.kind === "error") return [-high, Math.max(high, 1e-6)];
    const low = Math.min(setting(block, "low", 0), high - 1e-6);
    return [low, high];
  };

  const mapped = (block, canvas) => {
    const kind = block.dataset.kind;
    const [low, high] = windowOf(block);
    const table = tables[kind];
    return (x, y) => {
      const value = valueOf(kind, canvas.dataset.layer, Number(canvas.dataset.row), x, y);
      const index = Math.round(255 * Math.min(1, Math.max(0, (value - low) / (high - low))));
      return [table[3 * index], table[3 * index + 1], table[3 * index + 2]];
    };
  };

  const overlaid = (block, canvas) => {
    const name = canvas.dataset.layer;
    const opacity = setting(block, "opacity", 1);
    const image = layers[name.replace("estimate", "image")] ?? null;
    const below = name === "truth" || !image ? () => 0 : (x, y) => 255 * image(0, x, y);
    const share = name === "truth" ? 1 : opacity;
    return (x, y) => {
      const grey = below(x, y);
      const parts = data.tissues.map((_, t) => Math.max(0, layers[name](t, x, y)));
      const total = Math.min(1, parts.reduce((a, b) => a + b, 0));
      return [0, 1, 2].map((c) => {
        const ink = parts.reduce((sum, part, t) => sum + part * data.tissues[t][c], 0);
        return (1 - share * total) * grey + share * ink;
      });
    };
  };

  const isEdge = (row, x, y) => {
    const inside = (i, j) => layers.truth(row, i, j) >= 0.5;
    const here = inside(x, y);
    return here && (x + 1 < n && !inside(x + 1, y) || x > 0 && !inside(x - 1, y)
      || y + 1 < n && !inside(x, y + 1) || y > 0 && !inside(x, y - 1));
  };

  const paint = (block, canvas) => {
    const overlay = block.dataset.kind === "overlay";
    const colour = (overlay ? overlaid : mapped)(block, canvas);
    const outline = document.getElementById("outline").checked;
    const rows = overlay ? [0, 1] : [Number(canvas.dataset.row)];
    canvas.width = canvas.height = n;
    const pen = canvas.getContext("2d");
    const picture = pen.createImageData(n, n);
    for (let y = 0; y < n; y += 1) {
      for (let x = 0; x < n; x += 1) {
        const edge = outline && rows.some((row) => isEdge(row, x, y));
        const [r, g, b] = edge ? [0, 158, 115] : colour(x, y);
        picture.data.set([r, g, b, 255], 4 * (y * n + x));
      }
    }
    pen.putImageData(picture, 0, 0);
    if (marked) {
      pen.fillStyle = "rgba(0, 200, 120, .9)";
      pen.fillRect(marked.x, 0, 0.5, n);
      pen.fillRect(0, marked.y, n, 0.5);
    }
    tell(block, canvas);
  };

  const tell = (block, canvas) => {
    const place = canvas.nextElementSibling;
    if (!marked || block.dataset.kind === "overlay") {
      place.textContent = "\u00a0";
      return;
    }
    const { kind } = block.dataset;
    const value = valueOf(kind, canvas.dataset.layer, Number(canvas.dataset.row), marked.x, marked.y);
    place.textContent = (kind === "error" && value > 0 ? "+" : "") + value.toFixed(2);
  };

  const paintBlock = (block) => {
    for (const canvas of block.querySelectorAll("canvas[data-layer]")) paint(block, canvas);
    for (const input of block.querySelectorAll("input[data-set]")) {
      input.nextElementSibling.value = Number(input.value).toFixed(2);
    }
    const bar = block.querySelector("canvas.bar");
    if (!bar) return;
    const pen = bar.getContext("2d");
    const picture = pen.createImageData(256, 1);
    const table = tables[block.dataset.kind];
    for (let i = 0; i < 256; i += 1) {
      picture.data.set([table[3 * i], table[3 * i + 1], table[3 * i + 2], 255], 4 * i);
    }
    pen.putImageData(picture, 0, 0);
    const [low, high] = windowOf(block);
    const ends = block.querySelectorAll(".scale i");
    ends[0].textContent = low.toFixed(2);
    ends[1].textContent = high.toFixed(2);
  };

  let waiting = false;
  const paintAll = () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => { waiting = false; blocks.forEach(paintBlock); });
  };

  const mark = (x, y) => {
    const keep = (v) => Math.min(n - 1, Math.max(0, v));
    marked = { x: keep(x), y: keep(y) };
    paintAll();
  };

  const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  for (const block of blocks) {
    block.addEventListener("input", () => paintBlock(block));
    block.addEventListener("keydown", (event) => {
      if (event.target !== block) return;
      const step = steps[event.key];
      if (event.key === "Escape") { marked = null; paintAll(); }
      if (!step) return;
      event.preventDefault();
      const from = marked ?? { x: n >> 1, y: n >> 1 };
      mark(from.x + step[0], from.y + step[1]);
    });
    block.addEventListener("mousemove", (event) => {
      if (!event.target.dataset.layer) return;
      const box = event.target.getBoundingClientRect();
      mark(Math.floor(n * (event.clientX - box.left) / box.width),
        Math.floor(n * (event.clientY - box.top) / box.height));
    });
    block.addEventListener("mouseleave", () => { marked = null; paintAll(); });
  }
  document.getElementById("outline").addEventListener("change", paintAll);
  Promise.all(Object.entries(data.layers).map(([name, layer]) => decode(name, layer)))
    .then(() => { blocks.forEach(paintBlock); document.documentElement.dataset.maps = "painted"; });
})();
