// Every document beside this file must be valid AsyncAPI: any error ends the check with exit code 1.
import { readdir, readFile } from "node:fs/promises";
import { Parser } from "@asyncapi/parser";

const here = new URL(".", import.meta.url);
const names = (await readdir(here)).filter((name) => name.endsWith(".yaml")).sort();
if (names.length === 0) {
  console.error("no document to check: run `orderflow asyncapi build` first");
  process.exit(1);
}

const ERROR = 0;
let failed = false;
for (const name of names) {
  const { document, diagnostics } = await new Parser().parse(await readFile(new URL(name, here), "utf8"));
  const errors = diagnostics.filter(({ severity }) => severity === ERROR);
  for (const { path, message } of errors) {
    console.error(`${name}: ${path.join(".")}: ${message}`);
  }
  failed ||= errors.length > 0 || document === undefined;
  console.log(`${name}: ${errors.length} errors, ${document?.operations().length ?? 0} operations`);
}
process.exit(failed ? 1 : 0);
