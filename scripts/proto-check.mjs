// Checks proto/: lint, format, and that the contract neither breaks nor silently outgrows the
// accepted one, proto/accepted.binpb. It is compared with that image and not with an earlier
// commit, because a shallow clone has no earlier commit.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fail, root, succeeds } from "./run.mjs";

const accepted = "proto/accepted.binpb";

if (!succeeds("buf", ["lint"])) fail("proto/ fails buf lint.");
if (!succeeds("buf", ["format", "proto", "--diff", "--exit-code"])) {
  fail("proto/ is not formatted; run `npm run format`.");
}
if (!succeeds("buf", ["breaking", "proto", "--against", accepted])) {
  fail(
    "The contract breaks clients that were built with the accepted one. Add and deprecate instead;",
    "a break that is meant is accepted by `npm run proto:accept -- --breaking`.",
  );
}

const scratch = mkdtempSync(path.join(tmpdir(), "agentstore-proto-"));
process.on("exit", () => rmSync(scratch, { recursive: true }));
const image = path.join(scratch, "image.binpb");
if (!succeeds("buf", ["build", "proto", "--exclude-source-info", "-o", image])) {
  fail("proto/ does not build.");
}
if (!readFileSync(image).equals(readFileSync(path.join(root, accepted)))) {
  fail(
    "The contract has grown; run `npm run proto:accept` and commit the result, so that what was",
    "added cannot be broken unseen.",
  );
}
console.log("proto/ is linted, formatted and as accepted.");
