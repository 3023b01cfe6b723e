// The data, what of it the filters leave, and how each cell is drawn: colour, marker and dashes together.

const data = JSON.parse(document.getElementById('data').textContent);

const COLOURS = 7;
const MARKERS = ['circle', 'square', 'triangle', 'diamond', 'cross', 'down', 'plus', 'ring'];
const DASHES = ['', '7 3', '2 3', '9 3 2 3', '12 5', '4 2 1 2'];

const filters = { text: '', geometry: '', curvature: '', seed: '', state: '' };

const filterValues = {
  geometry: unique(data.runs.map((run) => run.geometry)),
  curvature: unique(data.runs.map((run) => curvatureOf(run))).sort(order),
  seed: unique(data.runs.map((run) => String(run.seed))).sort(order),
  state: unique(data.runs.map((run) => run.state)),
};

function curvatureOf(run) {
  return run.cell === null ? run.curvature : data.cells[run.cell].curvature;
}

const isOfGeometry = (setting) => /^(geometry|curvature)(\.|$)/.test(setting);

// What the text filter looks at. The parts of a geometry are named in its settings, and are not what it is called.
function words(run) {
  const cell = run.cell === null ? '' : data.cells[run.cell].name;
  const own = data.settings.map((name, i) => (run.own[i] === null || isOfGeometry(name) ? '' : `${name}=${run.own[i]}`));
  return [run.name, cell, run.state, run.error, ...own.filter(Boolean)].join(' ').toLowerCase();
}

data.runs.forEach((run, i) => { run.index = i; run.words = words(run); });
data.cells.forEach((cell, i) => { cell.index = i; });

function isShown(run) {
  return filters.text.toLowerCase().split(/\s+/).every((part) => run.words.includes(part))
    && (!filters.geometry || run.geometry === filters.geometry)
    && (!filters.curvature || curvatureOf(run) === filters.curvature)
    && (!filters.seed || String(run.seed) === filters.seed)
    && (!filters.state || run.state === filters.state);
}

const shownRuns = () => data.runs.filter(isShown);

// A cell is shown where one of its runs is. Its means are always those of all of its seeds.
function shownCells() {
  const kept = new Set(shownRuns().map((run) => run.cell));
  return data.cells.filter((cell) => kept.has(cell.index));
}

const places = (values) => { const known = unique(values); return (value) => known.indexOf(value); };
const ofGeometry = places(data.cells.map((cell) => cell.geometry));
const ofCurvature = places(data.cells.map((cell) => cell.curvature));
const ofMore = places(data.cells.map((cell) => cell.more));

// With few cells each has a colour, a marker and dashes of its own. With many, colour is the geometry, the marker the
// curvature, and dashes the other settings.
function styleOf(cell) {
  const few = data.cells.length <= COLOURS;
  const colour = few ? cell.index : ofGeometry(cell.geometry);
  return {
    colour: `var(--c${colour % COLOURS})`,
    marker: MARKERS[(few ? cell.index : ofCurvature(cell.curvature)) % MARKERS.length],
    dash: DASHES[(few ? cell.index : ofMore(cell.more)) % DASHES.length],
  };
}

const figureNamed = (name) => data.figures.find((one) => one.name === name);
const headingOf = (figure) => `${figure.heading}${figure.arrow ? ` ${figure.arrow}` : ''}`;
const runTitle = (run) => (run.cell === null ? run.name : `${data.cells[run.cell].name}, seed ${run.seed}`);

// A metric of a run, null where it has none.
const columns = new Map(data.metrics.map((name, i) => [name, i]));
const metricOf = (run, name) => run.values[columns.get(name)] ?? null;
