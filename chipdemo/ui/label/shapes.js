// Boxes and polygons over an image that can be zoomed, drawn by mouse, finger or keys; in whole pixels of the
// upright image. A shape is {x, y, width, height, defect_type} or {points: [[x, y], ...], defect_type}; ""
// stands for the type of the label.
(() => {
  const NEAR = 3; // pixels of the screen: a shorter drag is a click
  const CLOSES = 10; // pixels of the screen: a click so near to the first corner closes a polygon
  const COPIED = "chip-shape"; // what the text of a copied shape begins with

  const within = (value, low, high) => Math.min(high, Math.max(low, value));
  const svg = (name, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };

  function boundsOf(shape) {
    if (!shape.points) return shape;
    const [xs, ys] = [0, 1].map((side) => shape.points.map((point) => point[side]));
    const [x, y] = [Math.min(...xs), Math.min(...ys)];
    return { x, y, width: Math.max(1, Math.max(...xs) - x), height: Math.max(1, Math.max(...ys) - y) };
  }
  const cornersOf = (shape) =>
    shape.points ?? [0, 1, 2, 3].map((i) => [shape.x + (i % 2) * shape.width, shape.y + (i >> 1) * shape.height]);

  // The shape with its corner number i at a pixel
  function withCorner(shape, i, [x, y]) {
    if (shape.points) return { ...shape, points: shape.points.map((point, k) => (k === i ? [x, y] : point)) };
    const [fixedX, fixedY] = cornersOf(shape)[3 - i];
    const size = { width: Math.max(1, Math.abs(x - fixedX)), height: Math.max(1, Math.abs(y - fixedY)) };
    return { ...shape, x: Math.min(x, fixedX), y: Math.min(y, fixedY), ...size };
  }

  // The shape so many pixels to the right and down, inside the image
  function shifted(shape, right, down, image) {
    const { x, y, width, height } = boundsOf(shape);
    const [dx, dy] = [within(right, -x, image.width - x - width), within(down, -y, image.height - y - height)];
    if (!shape.points) return { ...shape, x: x + dx, y: y + dy };
    return { ...shape, points: shape.points.map(([px, py]) => [px + dx, py + dy]) };
  }

  function place(element, box, image) {
    element.style.left = `${(100 * box.x) / image.width}%`;
    element.style.top = `${(100 * box.y) / image.height}%`;
    element.style.width = `${(100 * box.width) / image.width}%`;
    element.style.height = `${(100 * box.height) / image.height}%`;
  }

  function drawn(points, bounds, closed) {
    const root = svg("svg", { viewBox: `${bounds.x} ${bounds.y} ${bounds.width} ${bounds.height}`, preserveAspectRatio: "none" });
    const line = { points: points.map((point) => point.join()).join(" "), "vector-effect": "non-scaling-stroke" };
    for (const name of ["under", "over"]) root.append(svg(closed ? "polygon" : "polyline", { ...line, class: name }));
    return root;
  }

  const nameOf = (shape) => (shape.points ? "Polygon" : "Box");
  function sizeOf(shape) {
    const { x, y, width, height } = boundsOf(shape);
    return `${width} × ${height} px at ${x}, ${y}`;
  }

  function markOf(shape, index, image) {
    const element = document.createElement("div");
    const bounds = boundsOf(shape);
    element.className = shape.points ? "mark outline" : "box mark";
    place(element, bounds, image);
    element.tabIndex = 0;
    element.dataset.index = index;
    element.setAttribute("role", "group");
    const keys = "Arrows move it, Shift and arrows size a box, Delete removes it.";
    element.setAttribute("aria-label", `${nameOf(shape)} ${index + 1}: ${sizeOf(shape)}. ${keys}`);
    if (shape.points) element.append(drawn(shape.points, bounds, true));
    const number = document.createElement("span");
    number.textContent = [index + 1, shape.defect_type].filter(Boolean).join(" ");
    element.append(number);
    cornersOf(shape).forEach(([x, y], corner) => {
      const handle = document.createElement("i");
      handle.className = "handle";
      handle.dataset.corner = corner;
      handle.style.left = `${(100 * (x - bounds.x)) / bounds.width}%`;
      handle.style.top = `${(100 * (y - bounds.y)) / bounds.height}%`;
      element.append(handle);
    });
    return element;
  }

  // paper: the element around the image, with .layers and .marks in it. zoom: of viewer.js. current(): {width,
  // height, shapes} of the image, or null. changed(): the shapes or the tool are others now.
  function shapesOver(paper, zoom, current, changed) {
    const [layers, marks] = [".layers", ".marks"].map((part) => paper.querySelector(part));
    let polygon = null; // the corners so far of the one that is being drawn; null for boxes
    let of = null; // the image that it is drawn on
    let from = null; // where the pointer went down
    const down = new Set(); // pointers

    const focused = () => +(document.activeElement?.closest?.(".mark")?.dataset.index ?? -1);
    const chosen = () => (focused() >= 0 ? focused() : (current()?.shapes.length || 0) - 1);

    function render(focus = -1) {
      const image = current();
      if (image !== of) [polygon, of, from] = [polygon && [], image, null];
      marks.replaceChildren(...(image ? image.shapes.map((shape, index) => markOf(shape, index, image)) : []));
      if (image && polygon?.length) showDraft();
      marks.children[focus]?.focus({ preventScroll: true });
    }
    function showDraft() {
      const image = current();
      const draft = document.createElement("div");
      draft.className = "draft";
      draft.append(drawn(polygon, { x: 0, y: 0, width: image.width, height: image.height }, false));
      marks.append(draft);
    }
    function change(focus = -1) {
      render(focus);
      changed();
    }

    function push(shape) {
      current().shapes.push({ defect_type: "", ...shape });
      change();
    }
    function add() {
      const image = current();
      if (!image) return;
      const [width, height] = [image.width, image.height].map((side) => Math.max(1, Math.round(side / 4)));
      const [x, y] = [image.width - width, image.height - height].map((room) => Math.floor(room / 2));
      push({ x, y, width, height });
      render(image.shapes.length - 1);
    }
    function remove(index) {
      if (!current()?.shapes[index]) return;
      current().shapes.splice(index, 1);
      change();
    }
    function removeLast() {
      if (!polygon?.length) return remove(chosen());
      polygon.pop();
      render();
    }
    function setType(index, type) {
      if (!current()?.shapes[index]) return false;
      current().shapes[index].defect_type = type;
      change(focused());
      return true;
    }

    // Polygons

    function usePolygon(value) {
      polygon = value ? [] : null;
      zoom.doubleClick(!value);
      render();
      changed();
    }
    function closePolygon() {
      const points = polygon.filter((point, i) => !i || point.join() !== polygon[i - 1].join());
      polygon = [];
      if (points.length >= 3) push({ points });
      else render();
    }
    function addCorner(event) {
      const point = pixel(event);
      const { left, top, width, height } = layers.getBoundingClientRect();
      const onScreen = ([x, y]) => [left + (x * width) / of.width, top + (y * height) / of.height];
      const [firstX, firstY] = polygon.length ? onScreen(polygon[0]) : [NaN, NaN];
      if (polygon.length >= 3 && Math.hypot(event.clientX - firstX, event.clientY - firstY) < CLOSES) return closePolygon();
      polygon.push(point);
      render();
    }

    // Keys: whether this one was for a shape

    function onKey(event) {
      if (polygon?.length && /^(Enter|Escape|Backspace)$/.test(event.key)) {
        if (event.key === "Enter") closePolygon();
        else if (event.key === "Backspace") removeLast();
        else usePolygon(true);
        return true;
      }
      const index = focused();
      if (index < 0 || !/^(Arrow|Delete$|Backspace$|Escape$)/.test(event.key)) return false;
      if (event.key === "Escape") document.activeElement.blur();
      else if (event.key.startsWith("Arrow")) move(index, event.key, event.shiftKey);
      else remove(index);
      return true;
    }
    function move(index, key, sizing) {
      const image = current();
      const shape = image.shapes[index];
      const step = Math.max(1, Math.round(Math.max(image.width, image.height) / 100 / zoom.times()));
      const [right, down] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
      if (sizing && shape.points) return;
      if (sizing) {
        shape.width = within(shape.width + right * step, 1, image.width - shape.x);
        shape.height = within(shape.height + down * step, 1, image.height - shape.y);
      } else image.shapes[index] = shifted(shape, right * step, down * step, image);
      change(index);
    }

    // Copy and paste, also onto another image or page

    document.addEventListener("copy", (event) => {
      const shape = current()?.shapes[focused()];
      if (!shape) return;
      event.clipboardData.setData("text/plain", COPIED + JSON.stringify(shape));
      event.preventDefault();
    });
    document.addEventListener("paste", (event) => {
      const text = event.clipboardData?.getData("text/plain") || "";
      if (!paper.offsetParent || !current() || window.chip.typing(event.target) || !text.startsWith(COPIED)) return;
      event.preventDefault();
      paste(JSON.parse(text.slice(COPIED.length)));
    });
    function paste(shape) {
      const image = current();
      const { width, height } = boundsOf(shape);
      if (width > image.width || height > image.height) return;
      const there = image.shapes.some((other) => sizeOf(other) === sizeOf(shape)) ? Math.max(2, Math.round(width / 4)) : 0;
      push(shifted(shape, there, there, image));
      render(image.shapes.length - 1);
    }

    // Pointers. OpenSeadragon captures them, so they come here wherever they go; here before it can stop them

    function pixel(event) {
      const { left, top, width, height } = layers.getBoundingClientRect();
      const image = current();
      return [
        Math.round(within((event.clientX - left) / width, 0, 1) * image.width),
        Math.round(within((event.clientY - top) / height, 0, 1) * image.height),
      ];
    }
    function boxTo(event) {
      const to = pixel(event);
      const [x, y] = to.map((side, i) => Math.min(from.pixel[i], side));
      const [width, height] = to.map((side, i) => Math.abs(from.pixel[i] - side));
      return { x, y, width, height };
    }
    const far = (event) => Math.hypot(event.clientX - from.x, event.clientY - from.y) > NEAR;
    function cancel() {
      if (from?.before) current().shapes[from.index] = from.before;
      from = null;
      if (current()) render();
    }

    function onDown(event) {
      down.add(event.pointerId);
      if (down.size > 1) return cancel(); // two fingers zoom
      if (!current() || event.button || zoom.isPanning() || paper.classList.contains("brushing")) return;
      const mark = event.target.closest(".mark");
      const index = mark && mark.contains(document.activeElement) ? +mark.dataset.index : -1;
      from = { pixel: pixel(event), x: event.clientX, y: event.clientY, id: event.pointerId, image: current(), index, clicked: mark ? +mark.dataset.index : -1 };
      if (index >= 0) Object.assign(from, { before: current().shapes[index], corner: event.target.dataset.corner });
      else if (!mark) document.activeElement?.blur?.();
    }
    function onMove(event) {
      if (event.pointerId !== from?.id) return;
      if (current() !== from.image) return (from = null); // a key has gone on to the next image
      if (!far(event) || polygon) return;
      if (from.before) return render(dragged(event));
      const box = marks.querySelector(".new") || marks.appendChild(document.createElement("div"));
      box.className = "box new";
      place(box, boxTo(event), current());
    }
    function dragged(event) {
      const { before, corner, index, image } = from;
      const to = pixel(event);
      if (corner !== undefined) image.shapes[index] = withCorner(before, +corner, to);
      else image.shapes[index] = shifted(before, to[0] - from.pixel[0], to[1] - from.pixel[1], image);
      return index;
    }
    function onUp(event) {
      down.delete(event.pointerId);
      if (event.pointerId !== from?.id) return;
      if (event.type === "pointercancel" || current() !== from.image) return cancel();
      const [wide, box, { before, index, clicked }] = [far(event), boxTo(event), from];
      from = null;
      if (polygon && !wide) return addCorner(event);
      if (before) return change(index);
      if (wide && box.width > 0 && box.height > 0 && !polygon) return push(box);
      marks.querySelector(".new")?.remove();
      if (!wide) marks.children[clicked]?.focus({ preventScroll: true });
    }
    paper.addEventListener("pointerdown", onDown, true);
    paper.addEventListener("pointermove", onMove, true);
    addEventListener("pointerup", onUp, true);
    addEventListener("pointercancel", onUp, true);
    paper.addEventListener("dblclick", () => polygon && closePolygon());

    return {
      render,
      add,
      remove,
      removeLast,
      setType,
      chosen,
      onKey,
      polygon: () => usePolygon(!polygon),
      off: () => polygon && usePolygon(false),
      isPolygon: () => Boolean(polygon),
      focus: (index) => marks.children[index]?.focus({ preventScroll: true }),
    };
  }

  Object.assign(window.chip, { shapesOver, shapeBounds: boundsOf, shapeText: (shape) => `${nameOf(shape)}, ${sizeOf(shape)}` });
})();
