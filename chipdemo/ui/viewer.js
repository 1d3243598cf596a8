// Zoom and pan over an image by OpenSeadragon, for Inspect and Label. What lies over the image (.layers:
// the preview itself, heat, boxes, mask) moves along as one element, so its parts are placed in percent.
// The original's tiles are asked for when the preview has no more pixels to show.
(() => {
  const TILE = 512; // pixels
  const COARSEST = 1024; // pixels of the longer side of the smallest copy that is asked for
  const PREVIEW = 1600; // pixels of the longer side of a preview, at most
  const LARGEST = 40; // pixels of the screen for one of the image
  const PIXELATED = 3; // the same, from which on pixels are shown as squares
  const SCALE_BAR = 120; // pixels of the screen, at most
  const AROUND = 48; // pixels of the image that are shown of a small region and around it, at least
  const STEP = 1.5;

  // Levels as OpenSeadragon counts them: the last one is the original, each one before is half as large
  function tileSource({ width, height, tiles }) {
    const maxLevel = Math.ceil(Math.log2(Math.max(width, height)));
    const minLevel = Math.min(maxLevel, Math.ceil(Math.log2(COARSEST)));
    const base = window.gradio_config?.root || "";
    const getTileUrl = (level, x, y) => `${base}/tiles/${tiles}/${maxLevel - level}/${x}/${y}`;
    return { width, height, tileSize: TILE, minLevel, maxLevel, getTileUrl };
  }
  // Gives the world its size, and draws nothing
  const ground = ({ width, height }) => ({ width, height, tileSize: TILE, tileExists: () => false, getTileUrl: () => "" });

  // 1, 2 or 5 times a power of ten, the longest that fits
  function scaleOf(perPixel) {
    const most = SCALE_BAR / perPixel;
    const ten = 10 ** Math.floor(Math.log10(most));
    return Math.max(1, ten * [5, 2, 1].find((times) => times * ten <= most));
  }

  // host: with .zoom, .layers and .scale in it. moved(left, width): which part of the image is seen across
  // it, in shares of the image's width. draws: a drag draws instead of moving the image.
  function zoomable(host, { moved = () => {}, draws = false } = {}) {
    const [zoom, layers, scale] = [".zoom", ".layers", ".scale"].map((part) => host.querySelector(part));
    const immediately = matchMedia("(prefers-reduced-motion: reduce)").matches;
    const gestures = { clickToZoom: false, dblClickToZoom: true, flickEnabled: false };
    const viewer = OpenSeadragon({
      element: zoom,
      drawer: "canvas",
      showNavigationControl: false,
      keyboardNavEnabled: false,
      tabIndex: "",
      autoResize: false, // fit does it, with the shape that an image has by then
      preserveOverlays: true,
      visibilityRatio: 1,
      constrainDuringPan: true,
      minZoomImageRatio: 1,
      maxZoomPixelRatio: LARGEST,
      animationTime: immediately ? 0 : 0.4,
      gestureSettingsMouse: gestures,
      gestureSettingsTouch: gestures,
      gestureSettingsPen: gestures,
    });
    let size = { width: 0, height: 0, tiles: "" };
    let original = false; // its tiles were asked for
    let panning = !draws;
    let opening = false;
    let asked = null; // what to do with the image once it is open

    const { viewport } = viewer;
    const perPixel = () => (viewport.getContainerSize().x * viewport.getZoom(true)) / size.width;
    const zoomedIn = () => viewport.getZoom() > viewport.getMinZoom() * 1.001;
    const whole = () => new OpenSeadragon.Rect(0, 0, 1, size.height / size.width);
    const isOpen = () => viewer.world.getItemCount() > 0;

    function follow() {
      if (!isOpen()) return;
      const { x, width } = viewport.getBounds(true);
      moved(x, width);
      host.classList.toggle("pixelated", perPixel() >= PIXELATED);
      host.classList.toggle("zoomed", zoomedIn());
      viewer.drawer.setImageSmoothingEnabled(perPixel() < PIXELATED);
      const touch = panning && !zoomedIn() ? "pan-y" : "none"; // a finger scrolls the page until it is zoomed
      for (const element of [viewer.canvas, viewer.container]) element.style.touchAction = touch;
      const pixels = scaleOf(perPixel());
      scale.style.width = `${pixels * perPixel()}px`;
      scale.textContent = `${pixels.toLocaleString("en")} px`;
      if (!original && size.tiles && perPixel() * devicePixelRatio > previewed() * 1.01) addOriginal();
    }
    const previewed = () => Math.min(1, PREVIEW / Math.max(size.width, size.height));

    function addOriginal() {
      original = true;
      const of = size;
      const success = ({ item }) => {
        if (of !== size) return viewer.world.removeItem(item);
        const shown = () => host.classList.toggle("original", of === size && original);
        if (item.getFullyLoaded()) shown();
        else item.addOnceHandler("fully-loaded-change", shown);
      };
      viewer.addTiledImage({ tileSource: tileSource(size), width: 1, success, error: () => {} });
    }

    // value: {width, height, tiles} of an image, in pixels, and the key of its tiles or "" for none
    function show(value) {
      const same = isOpen() && value.width === size.width && value.height === size.height;
      size = { width: value.width, height: value.height, tiles: value.tiles || "" };
      original = false;
      host.classList.remove("original");
      asked = null;
      opening = !same;
      if (opening) return viewer.open(ground(size));
      while (viewer.world.getItemCount() > 1) viewer.world.removeItem(viewer.world.getItemAt(1));
      fit();
    }
    // All of the image, in the place that it has now: an image of another shape has another
    function fit() {
      resize();
      viewport.goHome(true);
    }
    function resize() {
      const { width, height } = host.getBoundingClientRect();
      viewport.resize(new OpenSeadragon.Point(width, height), true);
      viewer.forceRedraw();
    }
    viewer.addHandler("open", () => {
      if (viewer.getOverlayById(layers)) viewer.updateOverlay(layers, whole());
      else viewer.addOverlay({ element: layers, location: whole() });
      fit();
      opening = false;
      asked?.();
    });
    for (const event of ["update-viewport", "animation-finish"]) viewer.addHandler(event, follow);
    viewer.addHandler("canvas-scroll", (event) => {
      if (event.scroll > 0 || zoomedIn()) return;
      event.preventDefault = false; // nothing left to zoom out of: the page scrolls
      event.preventDefaultAction = true;
    });
    new ResizeObserver(() => {
      if (!isOpen() || !host.clientWidth) return;
      if (zoomedIn()) resize();
      else fit();
    }).observe(host);

    function pan(value) {
      panning = value;
      for (const kind of ["Mouse", "Touch", "Pen"]) viewer[`gestureSettings${kind}`].dragToPan = value;
      host.classList.toggle("panning", value);
      follow();
    }
    pan(!draws);

    const whenOpen = (action) => (...values) => {
      if (opening) asked = () => action(...values);
      else action(...values);
    };
    const by = (factor) => {
      viewport.zoomBy(factor);
      viewport.applyConstraints();
    };
    // box: x, y, width, height in pixels of the image; is shown with some of what is around it
    function zoomTo({ x, y, width, height }) {
      const wide = Math.max(1.3 * Math.max(width, height), AROUND);
      const [left, top] = [x + width / 2 - wide / 2, y + height / 2 - wide / 2];
      const part = [left, top, wide, wide].map((side) => side / size.width);
      viewport.fitBoundsWithConstraints(new OpenSeadragon.Rect(...part), immediately);
    }
    const doubleClick = (value) => {
      for (const kind of ["Mouse", "Touch", "Pen"]) viewer[`gestureSettings${kind}`].dblClickToZoom = value;
    };

    return {
      show,
      zoomTo: whenOpen(zoomTo),
      pan,
      doubleClick,
      isPanning: () => panning,
      times: () => viewport.getZoom(true) / viewport.getHomeZoom(),
      in: whenOpen(() => by(STEP)),
      out: whenOpen(() => by(1 / STEP)),
      home: whenOpen(() => viewport.goHome()),
    };
  }

  Object.assign(window.chip, { zoomable });
})();
