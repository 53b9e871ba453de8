// Accepts the contract as it is in proto/: writes proto/accepted.binpb, which `npm run proto:check`
// compares with. Refuses a breaking change unless --breaking is given.
import { existsSync } from "node:fs";
import path from "node:path";
import { fail, root, succeeds } from "./run.mjs";

const accepted = "proto/accepted.binpb";

if (!process.argv.includes("--breaking") && existsSync(path.join(root, accepted))) {
  if (!succeeds("buf", ["breaking", "proto", "--against", accepted])) {
    fail("Not accepted: the contract breaks clients. If that is meant, pass --breaking.");
  }
}
if (!succeeds("buf", ["build", "proto", "--exclude-source-info", "-o", accepted])) {
  fail("proto/ does not build.");
}
console.log(`${accepted} is the contract of proto/ now; commit it.`);
