// Writes docs/errors.md from the comments of ErrorReason in the committed descriptor set; with
// --check, fails when the file is not what it would write.
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { fail, root } from "./run.mjs";

const PROTO = "agentstore/v1/errors.proto";
const PREFIX = "ERROR_REASON_";
// Field numbers of descriptor.proto: FileDescriptorProto.enum_type, EnumDescriptorProto.value.
const ENUM_TYPE = 5;
const ENUM_VALUE = 2;

const target = path.join(root, "docs", "errors.md");
const text = render(readReasons());
if (!process.argv.includes("--check")) {
  writeFileSync(target, text);
} else if (!existsSync(target) || readFileSync(target, "utf8") !== text) {
  fail("docs/errors.md is stale; run `npm run docs:errors` and commit the result.");
} else {
  console.log("docs/errors.md is up to date.");
}

/** @typedef {{ name: string, meaning: string, code: string, example: string, client: string }} Reason */

/**
 * Reads the reasons from the descriptor set, in the order of their numbers.
 *
 * @returns {Reason[]} all but the unspecified one
 */
function readReasons() {
  const bytes = readFileSync(path.join(root, "gen", "agentstore.binpb"));
  const file = fromBinary(FileDescriptorSetSchema, bytes).file.find(({ name }) => name === PROTO);
  const at = file?.enumType.findIndex(({ name }) => name === "ErrorReason") ?? -1;
  const values = file?.enumType[at]?.value;
  if (!values) throw new Error(`gen/agentstore.binpb has no ErrorReason in ${PROTO}`);
  return values
    .map((value, index) => ({
      name: value.name.slice(PREFIX.length),
      number: value.number,
      comment:
        file.sourceCodeInfo?.location.find(
          (location) => location.path.join() === [ENUM_TYPE, at, ENUM_VALUE, index].join(),
        )?.leadingComments ?? "",
    }))
    .filter(({ number }) => number !== 0)
    .map(({ name, comment }) => parse(name, comment));
}

/**
 * Splits a reason's comment into its parts: what it means, then `Code:`, `Example:`, `Client:`.
 *
 * @param {string} name the reason
 * @param {string} comment the comment as protoc keeps it
 * @returns {Reason}
 */
function parse(name, comment) {
  const [meaning, facts] = comment.split(/\n\s*\n/).map(unwrap);
  const found = /^Code: (.+) Example: (\{.+\}) Client: (.+)$/.exec(facts ?? "");
  const [, code, example, client] = found ?? [];
  if (!meaning || !code || !example || !client) {
    fail(`${PREFIX}${name} in ${PROTO} lacks its meaning, Code:, Example: or Client:.`);
  }
  try {
    JSON.parse(example);
  } catch {
    fail(`The example of ${PREFIX}${name} in ${PROTO} is not JSON.`);
  }
  return { name, meaning, code, example, client };
}

/**
 * Joins the lines of a paragraph.
 *
 * @param {string} paragraph
 * @returns {string}
 */
function unwrap(paragraph) {
  return paragraph
    .split("\n")
    .map((line) => line.trim())
    .join(" ")
    .trim();
}

/**
 * Writes the page.
 *
 * @param {Reason[]} reasons
 * @returns {string}
 */
function render(reasons) {
  const rows = reasons.map(
    ({ name, code, meaning }) =>
      `| [${name}](#${name.toLowerCase()}) | ${code.split(/[.,]/)[0]} | ${meaning} |`,
  );
  const sections = reasons.map(
    ({ name, code, meaning, example, client }) => `## ${name}

${meaning}

- **Code:** ${code}
- **Client:** ${capitalise(client)}

\`\`\`json
${example}
\`\`\`
`,
  );
  return `<!-- Made by \`npm run docs:errors\` from proto/${PROTO}; edit that file instead. -->

# Errors

Every error carries a \`google.rpc.ErrorInfo\` with the domain \`agentstore\`, one of the reasons
below and, where there is something to tell, metadata. It travels in the trailer
\`grpc-status-details-bin\`, with a \`google.rpc.BadRequest\` that names the fields of an
INVALID_ARGUMENT and a \`google.rpc.RetryInfo\` where the same call may succeed later. Programs
decide by the reason; the text is for people and may change.

| reason | code | meaning |
|---|---|---|
${rows.join("\n")}

${sections.join("\n")}`;
}

/**
 * Gives a text a capital letter.
 *
 * @param {string} sentence
 * @returns {string}
 */
function capitalise(sentence) {
  return sentence.charAt(0).toUpperCase() + sentence.slice(1);
}
