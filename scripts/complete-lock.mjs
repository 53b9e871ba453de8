// Completes package-lock.json: npm leaves optional packages of other platforms out of the lock when
// it cannot see them, and then `npm ci` refuses the lock. `npm run lock` runs it after an install.
import { readFileSync, writeFileSync } from "node:fs";

const FILE = new URL("../package-lock.json", import.meta.url);
const SYSTEMS = new Set(
  "aix android darwin freebsd linux netbsd openbsd openharmony sunos win32".split(" "),
);
/** @type {Record<string, string>} */
const PROCESSORS = {
  aarch64: "arm64",
  arm: "arm",
  arm64: "arm64",
  armv6: "arm",
  armv7: "arm",
  ia32: "ia32",
  loong64: "loong64",
  mips64el: "mips64el",
  ppc64: "ppc64",
  ppc64le: "ppc64",
  riscv64: "riscv64",
  s390x: "s390x",
  wasm32: "wasm32",
  x64: "x64",
};

/**
 * @typedef {object} Entry
 * @property {string} [version]
 * @property {string} [license]
 * @property {boolean} [dev]
 * @property {boolean} [optional]
 * @property {string[]} [cpu]
 * @property {string[]} [libc]
 * @property {string[]} [os]
 * @property {Record<string, string>} [optionalDependencies]
 */

const lock = /** @type {{ packages: Record<string, Entry> }} */ (
  JSON.parse(readFileSync(FILE, "utf8"))
);
const added = [];
for (const [place, entry] of Object.entries(lock.packages)) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const known = [`node_modules/${name}`, `${place}/node_modules/${name}`];
    const isExact = /^\d+\.\d+\.\d+/.test(version);
    if (!isExact || known.some((key) => key in lock.packages)) continue;
    lock.packages[`node_modules/${name}`] = platformEntry(name, version, entry);
    added.push(`${name}@${version}`);
  }
}
const sorted = Object.entries(lock.packages).toSorted(([a], [b]) => a.localeCompare(b, "en"));
lock.packages = Object.fromEntries(sorted);
writeFileSync(FILE, `${JSON.stringify(lock, null, 2)}\n`);
console.log(added.length === 0 ? "the lock was complete" : `added ${added.join(", ")}`);

/**
 * Makes the entry of a package that is named after its platform, such as
 * `@biomejs/cli-linux-x64-musl`.
 *
 * @param {string} name the package
 * @param {string} version its exact version
 * @param {Entry} parent the entry of the package that names it
 * @returns {Entry}
 */
function platformEntry(name, version, parent) {
  const words = name.split(/[-/]/);
  const os = words.filter((word) => SYSTEMS.has(word));
  const cpu = [...new Set(words.flatMap((word) => PROCESSORS[word] ?? []))];
  /** @type {Entry} */
  const entry = { version };
  if (cpu.length > 0) entry.cpu = cpu;
  if (parent.dev) entry.dev = true;
  if (words.some((word) => word.startsWith("musl"))) entry.libc = ["musl"];
  else if (words.some((word) => word.startsWith("gnu"))) entry.libc = ["glibc"];
  if (parent.license !== undefined) entry.license = parent.license;
  entry.optional = true;
  if (os.length > 0) entry.os = os;
  return entry;
}
