// Elements and small helpers. What comes from the data becomes text or a checked attribute, never HTML.

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) element.append(child);
  }
  return element;
}

const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

const clear = (element, ...children) => { element.replaceChildren(...children.flat(Infinity).filter(Boolean)); return element; };

const unique = (values) => [...new Set(values)];

// A number as people read it, with the digits that count.
function number(value, digits = 4) {
  if (value === null || value === undefined) return '–';
  if (value !== 0 && (Math.abs(value) >= 1e6 || Math.abs(value) < 1e-4)) return value.toExponential(2);
  return String(Number(value.toPrecision(digits)));
}

// A labelled choice. options: [value, what is shown].
function choice(label, options, value, change) {
  const select = h('select', { onchange: () => change(select.value) },
    options.map(([key, text]) => h('option', { value: key, selected: key === value }, text)));
  return h('label', {}, label, ' ', select);
}

// Draws again, with the keyboard where it was: on the control of the same place.
function keepingFocus(root, draw) {
  const controls = () => [...root.querySelectorAll('select, input')];
  const place = controls().indexOf(document.activeElement);
  draw(root);
  if (place >= 0) controls()[place]?.focus();
}

const byText = new Intl.Collator('en', { numeric: true });

// Order of two values of a table: numbers by size, the rest as text, what is not known last.
function order(a, b) {
  const missing = (value) => value === null || value === undefined || value === '';
  if (missing(a) || missing(b)) return missing(a) - missing(b);
  return typeof a === 'number' && typeof b === 'number' ? a - b : byText.compare(String(a), String(b));
}

function download(name, text, type) {
  const link = h('a', { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function csv(table) {
  const quoted = (value) => {
    const text = value === null || value === undefined ? '' : String(value);
    return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return table.map((line) => line.map(quoted).join(',')).join('\n') + '\n';
}
