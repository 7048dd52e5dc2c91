// Prints the counts of the last run of the tests: `N passed, N failed, N skipped`.
import { totalsLine } from "./lib/totals.mjs";

console.log(totalsLine());
