export { detectMambaByteNaming, loadMambaByte, loadMambaByteFrom, mambaByteNames } from "./load-mambabyte.js";
