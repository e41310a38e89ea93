// Draw a digit, bring it into MNIST's form, and let the champion's ONNX graph say which one it is.
// `centre` does what mnist_core/images.py does with a drawing on plain paper, step by step.

const EDGE = 28, FIT = 20, PEN = 22;
const TENTH = Math.fround(0.1); // numpy compares and multiplies in single precision

// Round to the nearest integer, halves to the even one, as Python does.
function round(value) {
  const low = Math.floor(value), rest = value - low;
  if (rest !== 0.5) return rest < 0.5 ? low : low + 1;
  return low % 2 ? low + 1 : low;
}

// Weights of Pillow's bilinear filter from one axis of `length` pixels, between `from` and `to`, to `size` pixels.
function weights(length, from, to, size) {
  const scale = (to - from) / size, wide = Math.max(scale, 1), all = [];
  for (let at = 0; at < size; at++) {
    const middle = from + (at + 0.5) * scale;
    const first = Math.max(Math.trunc(middle - wide + 0.5), 0);
    const last = Math.min(Math.trunc(middle + wide + 0.5), length);
    const taken = [];
    let sum = 0;
    for (let x = first; x < last; x++) {
      const weight = Math.max(1 - Math.abs((x - middle + 0.5) / wide), 0);
      taken.push(weight);
      sum += weight;
    }
    all.push({ first, taken: taken.map((weight) => weight / sum) });
  }
  return all;
}

function resize(ink, width, height, box, columns, rows) {
  const across = weights(width, box.left, box.right, columns), down = weights(height, box.top, box.bottom, rows);
  const narrow = new Float32Array(columns * height), small = new Float32Array(columns * rows);
  for (let y = 0; y < height; y++) {
    across.forEach(({ first, taken }, x) => {
      narrow[y * columns + x] = taken.reduce((sum, weight, i) => sum + weight * ink[y * width + first + i], 0);
    });
  }
  down.forEach(({ first, taken }, y) => {
    for (let x = 0; x < columns; x++) {
      small[y * columns + x] = taken.reduce((sum, weight, i) => sum + weight * narrow[(first + i) * columns + x], 0);
    }
  });
  return small;
}

function percentile(values, share) {
  const sorted = Float32Array.from(values).sort(), at = share * (sorted.length - 1), low = Math.floor(at);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - low);
}

function boxOf(ink, width, height) {
  const box = { left: width, right: 0, top: height, bottom: 0 };
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (ink[y * width + x] > TENTH) {
        box.left = Math.min(box.left, x);
        box.right = Math.max(box.right, x + 1);
        box.top = Math.min(box.top, y);
        box.bottom = Math.max(box.bottom, y + 1);
      }
    }
  }
  return box;
}

// Return the largest value of a square window around each pixel.
function largest(grey, width, height, window) {
  const reach = window >> 1, across = new Uint8Array(grey.length), all = new Uint8Array(grey.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = y * width + Math.max(x - reach, 0), to = y * width + Math.min(x + reach, width - 1);
      for (let at = from; at <= to; at++) across[y * width + x] = Math.max(across[y * width + x], grey[at]);
    }
  }
  for (let y = 0; y < height; y++) {
    for (let row = Math.max(y - reach, 0); row <= Math.min(y + reach, height - 1); row++) {
      for (let x = 0; x < width; x++) {
        all[y * width + x] = Math.max(all[y * width + x], across[row * width + x]);
      }
    }
  }
  return all;
}

// Return ink with those strokes wider that are thinner than `least` pixels.
function withFullStrokes(ink, width, height, least) {
  const window = Math.floor(round(least) / 2) * 2 + 1;
  if (window < 3) return ink;
  const grey = Uint8Array.from(ink, (value) => round(Math.fround(255 * value)));
  const core = largest(grey.map((value) => 255 - value), width, height, window).map((value) => 255 - value);
  const near = largest(largest(core, width, height, window), width, height, window);
  const wider = largest(grey.map((value, i) => (near[i] < value >> 1 ? value : 0)), width, height, window);
  return ink.map((value, i) => Math.max(value, wider[i] / 255));
}

// Return a drawing, grey values 0 background to 255 ink, as 28 × 28 in MNIST's form; null if it is empty.
export function centre(grey, width, height) {
  const most = grey.reduce((a, b) => Math.max(a, b), 0);
  if (most < 16) return null;
  const ink = Float32Array.from(grey, (value) => value / most);
  const box = boxOf(ink, width, height);
  const wide = box.right - box.left, tall = box.bottom - box.top, scale = FIT / Math.max(tall, wide);
  const columns = Math.max(1, round(wide * scale)), rows = Math.max(1, round(tall * scale));
  let small = resize(withFullStrokes(ink, width, height, 1 / scale), width, height, box, columns, rows);
  // A thin pen turns pale when it shrinks; the strokes get full ink again.
  const faint = Math.fround(TENTH * small.reduce((a, b) => Math.max(a, b), 0));
  const full = percentile(small.filter((value) => value > faint), 0.9);
  small = small.map((value) => Math.min(Math.max(value / full, 0), 1));

  let total = 0, down = 0, across = 0;
  small.forEach((value, i) => {
    total += value;
    down += value * Math.floor(i / columns);
    across += value * (i % columns);
  });
  const top = Math.min(Math.max(round(EDGE / 2 - down / total), 0), EDGE - rows);
  const left = Math.min(Math.max(round(EDGE / 2 - across / total), 0), EDGE - columns);
  const digit = new Uint8Array(EDGE * EDGE);
  small.forEach((value, i) => {
    digit[(top + Math.floor(i / columns)) * EDGE + left + (i % columns)] = round(Math.fround(value * 255));
  });
  return digit;
}

let opened = null;

// Return the probabilities of the classes for one or more digits of 28 × 28 pixels, one after another in `pixels`.
export async function predict(pixels) {
  opened ??= (async () => {
    const ort = await import("./runtime/ort.wasm.bundle.min.mjs");
    ort.env.wasm.numThreads = 1; // more need headers that a host of static pages does not send
    const session = await ort.InferenceSession.create(new URL("runtime/champion.onnx", import.meta.url).href);
    return { ort, session };
  })();
  const { ort, session } = await opened;
  const count = pixels.length / (EDGE * EDGE);
  const { logits } = await session.run({ pixels: new ort.Tensor("uint8", pixels, [count, EDGE, EDGE]) });
  const classes = logits.dims[1], answers = [];
  for (let n = 0; n < count; n++) {
    const row = Array.from(logits.data.slice(n * classes, (n + 1) * classes)), most = Math.max(...row);
    const powers = row.map((value) => Math.exp(value - most)), sum = powers.reduce((a, b) => a + b, 0);
    answers.push(powers.map((power) => power / sum));
  }
  return answers;
}

// The page

function start(canvas) {
  const pen = canvas.getContext("2d", { willReadFrequently: true });
  const answer = document.getElementById("answer"), seen = document.getElementById("seen").getContext("2d");
  const rows = document.querySelectorAll("#probabilities tbody tr");
  let last = null, at = { x: canvas.width / 2, y: canvas.height / 4 }, drawn = 0;

  function clear() {
    drawn++;
    pen.fillStyle = "black";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    seen.clearRect(0, 0, EDGE, EDGE);
    answer.textContent = "Nothing is drawn yet.";
    rows.forEach((row) => { row.style.setProperty("--share", 0); row.cells[1].textContent = "–"; });
  }

  function line(from, to) {
    pen.strokeStyle = "white";
    pen.lineWidth = PEN;
    pen.lineCap = pen.lineJoin = "round";
    pen.beginPath();
    pen.moveTo(from.x, from.y);
    pen.lineTo(to.x, to.y);
    pen.stroke();
  }

  async function show() {
    const turn = ++drawn;
    const data = pen.getImageData(0, 0, canvas.width, canvas.height).data;
    const digit = centre(Uint8Array.from({ length: data.length / 4 }, (_, i) => data[4 * i]), canvas.width, canvas.height);
    if (!digit) return;
    const picture = seen.createImageData(EDGE, EDGE);
    digit.forEach((value, i) => picture.data.set([value, value, value, 255], 4 * i));
    seen.putImageData(picture, 0, 0);
    try {
      const [shares] = await predict(digit);
      if (turn !== drawn) return;
      const best = shares.indexOf(Math.max(...shares));
      answer.textContent = `It is a ${rows[best].cells[0].textContent}, with ${(100 * shares[best]).toFixed(1)} %.`;
      rows.forEach((row, i) => {
        row.style.setProperty("--share", shares[i]);
        row.cells[1].textContent = `${(100 * shares[i]).toFixed(1)} %`;
      });
    } catch (error) {
      answer.textContent = "The network could not be loaded. Reload the page; it must come from a web server, not from a file.";
      console.error(error);
    }
  }

  function place(event) {
    const box = canvas.getBoundingClientRect(), scale = canvas.width / box.width;
    return { x: (event.clientX - box.left) * scale, y: (event.clientY - box.top) * scale };
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = at = place(event);
    line(last, last);
    event.preventDefault();
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    at = place(event);
    line(last, at);
    last = at;
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, () => {
      if (last) show();
      last = null;
    });
  }
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    const inside = (value, most) => Math.min(Math.max(value, PEN), most - PEN);
    const to = { x: inside(at.x + 10 * step[0], canvas.width), y: inside(at.y + 10 * step[1], canvas.height) };
    if (event.shiftKey) line(at, to);
    at = to;
  });
  canvas.addEventListener("keyup", (event) => {
    if (event.key === "Shift") show();
  });
  document.getElementById("clear").addEventListener("click", clear);
  clear();
}

const canvas = document.getElementById("drawing");
if (canvas) start(canvas);
