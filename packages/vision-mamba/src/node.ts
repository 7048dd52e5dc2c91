export { decodeImage, readImage } from "./node/decode-image.js";
export { decodePng } from "./node/png.js";
