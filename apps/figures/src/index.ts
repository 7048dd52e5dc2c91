export { type HeatMapOptions, heatMap } from "./heat-map.js";
export { type LinePlotOptions, linePlot, type Series } from "./line-plot.js";
export { commitOf } from "./provenance.js";
export { escapeText } from "./text.js";
