// Every document that is named must be valid AsyncAPI: any error ends the check with exit code 1.
import { readFile } from "node:fs/promises";
import { Parser } from "@asyncapi/parser";

const ERROR = 0;
const parser = new Parser();
for (const path of process.argv.slice(2)) {
  const { document, diagnostics } = await parser.parse(await readFile(path, "utf8"));
  const errors = diagnostics.filter(({ severity }) => severity === ERROR);
  for (const { path: place, message } of errors) {
    console.error(`${path}: ${place.join(".")}: ${message}`);
  }
  if (errors.length > 0 || document === undefined) {
    process.exitCode = 1;
  }
}
