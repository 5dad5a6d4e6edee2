// Zoom and pan of a page's pictures: Ctrl (or Cmd) and the wheel, pinch, drag, the keys + - 0, and buttons.
// It reads no text of the page and makes none from it; the page works without it. No network.
"use strict";
for (const drawn of document.querySelectorAll(".drawn")) {
  const room = drawn.querySelector(".scroll"), svg = room.querySelector("svg"), sizes = drawn.querySelectorAll(".zoom input");
  const whole = svg.viewBox.baseVal.width, told = document.createElement("output");
  const width = () => svg.getBoundingClientRect().width;
  const tell = () => { told.textContent = Math.round(100 * width() / whole) + " %"; };

  const reset = () => {
    room.classList.remove("free");
    svg.style.width = "";
    sizes[0].checked = true;
    tell();
  };

  // The point of the picture at (x, y) of the window stays where it is.
  const zoom = (factor, x, y) => {
    const before = svg.getBoundingClientRect(), next = Math.min(Math.max(before.width * factor, whole / 8), whole * 8);
    sizes.forEach((s) => { s.checked = false; });
    room.classList.add("free");
    svg.style.width = next + "px";
    const r = room.getBoundingClientRect(); // as high as the window at most from now on: bring it there
    scrollBy(0, r.top < 0 ? r.top : Math.max(0, Math.min(r.top, r.bottom - innerHeight)));
    const after = svg.getBoundingClientRect(), by = after.width / before.width;
    room.scrollLeft += after.left + (x - before.left) * by - x;
    room.scrollTop += after.top + (y - before.top) * by - y;
    tell();
  };
  const zoomMiddle = (factor) => {
    const r = room.getBoundingClientRect();
    zoom(factor, r.left + r.width / 2, r.top + r.height / 2);
  };

  const button = (sign, name, does) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = sign;
    made.setAttribute("aria-label", name);
    made.title = name;
    made.addEventListener("click", does);
    return made;
  };
  const hint = document.createElement("span");
  hint.className = "soft";
  hint.textContent = "Ctrl and wheel or pinch: zoom; drag: move; keys + - 0";
  drawn.querySelector(".zoom").append(
    button("\u2212", "Zoom out", () => zoomMiddle(0.8)), told, button("+", "Zoom in", () => zoomMiddle(1.25)), button("Reset", "Reset the size", reset), hint);
  sizes.forEach((s) => s.addEventListener("change", () => { room.classList.remove("free"); svg.style.width = ""; tell(); }));

  room.addEventListener("wheel", (e) => {
    if (!e.ctrlKey && !e.metaKey) return; // the page scrolls
    e.preventDefault();
    zoom(Math.exp(-Math.max(-50, Math.min(50, e.deltaMode ? e.deltaY * 16 : e.deltaY)) / 150), e.clientX, e.clientY);
  }, { passive: false });

  room.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey) return; // the browser's own zoom
    if (e.key === "+" || e.key === "=") zoomMiddle(1.25);
    else if (e.key === "-") zoomMiddle(0.8);
    else if (e.key === "0") reset();
    else return; // arrows scroll the region without help
    e.preventDefault();
  });

  let last = 0; // distance of two fingers
  const fingers = (e) => {
    const [a, b] = e.touches;
    return [Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY), (a.clientX + b.clientX) / 2, (a.clientY + b.clientY) / 2];
  };
  room.addEventListener("touchstart", (e) => { last = e.touches.length === 2 ? fingers(e)[0] : 0; }, { passive: true });
  room.addEventListener("touchmove", (e) => {
    if (e.touches.length !== 2 || !last) return; // one finger scrolls
    e.preventDefault();
    const [now, x, y] = fingers(e);
    zoom(now / last, x, y);
    last = now;
  }, { passive: false });
  let scale = 1; // of a trackpad in Safari, which sends no wheel for a pinch
  room.addEventListener("gesturestart", (e) => { e.preventDefault(); scale = 1; });
  room.addEventListener("gesturechange", (e) => {
    e.preventDefault();
    if (!last) zoom(e.scale / scale, e.clientX, e.clientY);
    scale = e.scale;
  });

  let held = null;
  room.addEventListener("pointerdown", (e) => {
    if (e.pointerType === "touch" || e.button !== 0 || e.target.closest("a")) return;
    held = { x: e.clientX, y: e.clientY };
    room.classList.add("held");
  });
  room.addEventListener("dragstart", (e) => e.preventDefault());
  addEventListener("pointermove", (e) => {
    if (held === null) return;
    room.scrollLeft -= e.clientX - held.x;
    room.scrollTop -= e.clientY - held.y;
    held = { x: e.clientX, y: e.clientY };
  });
  for (const end of ["pointerup", "pointercancel", "blur"]) addEventListener(end, () => { held = null; room.classList.remove("held"); });
  addEventListener("resize", tell);
  tell();
}
