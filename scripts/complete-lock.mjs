// Completes package-lock.json: npm leaves optional packages of other platforms out of the lock when
// it cannot see them, and then `npm ci` refuses the lock. `npm run lock` runs it after an install.
import { readFileSync, writeFileSync } from "node:fs";

const FILE = new URL("../package-lock.json", import.meta.url);
const SYSTEMS = new Set(
  "aix android darwin freebsd linux netbsd openbsd openharmony sunos win32".split(" "),
);
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

const lock = JSON.parse(readFileSync(FILE, "utf8"));
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

// Such packages are named after their platform: @biomejs/cli-linux-x64-musl.
function platformEntry(name, version, { dev, license }) {
  const words = name.split(/[-/]/);
  const os = words.filter((word) => SYSTEMS.has(word));
  const cpu = [...new Set(words.map((word) => PROCESSORS[word]).filter(Boolean))];
  const libc = words.some((word) => word.startsWith("musl"))
    ? ["musl"]
    : words.some((word) => word.startsWith("gnu"))
      ? ["glibc"]
      : [];
  return {
    version,
    ...(cpu.length > 0 && { cpu }),
    ...(dev && { dev }),
    ...(libc.length > 0 && { libc }),
    license,
    optional: true,
    ...(os.length > 0 && { os }),
  };
}
