// `agentstore import`: brings sessions in from exports, and conversations from JSONL files.
import { Command, Option } from "commander";
import type { AgentStoreClient, ImportedSession } from "../../client/index.js";
import { CliError, exitCodes, UsageError } from "../errors.js";
import type { ExportFileEvents } from "../import/export-file.js";
import type { Input } from "../import/input.js";
import type { Progress } from "../import/progress.js";
import type { ImportEvents, LineReport } from "../import/run.js";
import type { Form, SniffedInput } from "../import/sniff.js";
import {
  modelName,
  required,
  type StoreOptions,
  withJsonOption,
  withStoreOptions,
} from "../options.js";
import { write, writeJson } from "../output.js";

interface ImportFlags extends StoreOptions {
  json?: boolean;
  model?: string;
  format: Form | "auto";
  importId?: string;
}

/** Defines the command. */
export function importCommand(): Command {
  const command = new Command("import")
    .summary("bring exported sessions, or conversations from JSONL files, in")
    .description(
      "Imports what agentstore export has written, as it was, or conversations from JSONL files, " +
        "one JSON document a line, and keeps every field. " +
        "Running the same import again writes only what is missing: after an interruption it goes " +
        "on where it was. A conversation that cannot be imported is named on stderr and passed over; " +
        "an export ends at the first line that is wrong.",
    )
    .argument("<file...>", "JSONL files in UTF-8; - for stdin")
    .option(
      "--model <model>",
      'the model of all conversations (default: the line\'s "model", else "imported")',
      modelName,
    )
    .addOption(
      new Option(
        "--format <format>",
        "auto: told apart by the first line (default); agentstore: an export; conversations: any of " +
          "the forms below",
      )
        .choices(["auto", "agentstore", "conversations"])
        .default("auto", "auto"),
    )
    .option(
      "--import-id <id>",
      "names the import of an export: the same id imports each session once (default: one that " +
        "follows from the export)",
      required,
    );
  return withStoreOptions(
    withJsonOption(command, "a JSON line for each session or conversation and a summary"),
  )
    .addHelpText(
      "after",
      `
Each line of conversations may have another one of these forms:
  {"messages": [{"role": "user", "content": "Hi"}, …], …}      OpenAI chat messages
  [{"role": "user", "content": "Hi"}, …]                       the bare array of them
  {"conversations": [{"from": "human", "value": "Hi"}, …], …}  ShareGPT, with calls

\`agentstore show ID --format source\` gives a conversation back in its form,
\`--format openai\` as OpenAI chat messages. The line's other members become the
session's metadata, under "source". Half a surrogate pair (\\ud800), which UTF-8
cannot express, stays exact in the message's payload and is U+FFFD elsewhere.

Examples:
  agentstore import sessions.jsonl
  agentstore import conversations.jsonl
  agentstore import runs/*.jsonl --model gpt-4
  zcat archive.jsonl.gz | agentstore import - --json

Exit code:
  0  all lines are in the store
  1  some lines are wrong, or the server failed
  2  wrong usage
  130  interrupted

Environment:
  AGENTSTORE_URL          as --url
  AGENTSTORE_TOKEN        as --token`,
    )
    .action(importFiles);
}

async function importFiles(paths: string[], flags: ImportFlags): Promise<void> {
  const { openInputs } = await import("../import/input.js");
  const opened = await openInputs(paths);
  const [{ withStore }, { showProgress }] = await Promise.all([
    import("../connect.js"),
    import("../import/progress.js"),
  ]);
  const interruption = new AbortController();
  // Once only: a second signal ends the process at once, as it always does.
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => interruption.abort(signal));
  }
  const sniffed = await tellApart(opened, flags, interruption.signal);
  const inputs = sniffed.map(({ input }) => input);
  const progress = showProgress(inputs);
  const tally = new Tally(inputs, flags.json ?? false, progress);
  let failure: unknown;
  try {
    await withStore(flags, async (store) => {
      for (const run of runs(sniffed)) {
        await importRun(store, run, flags, interruption.signal, tally);
      }
    });
  } catch (error) {
    failure = error;
  } finally {
    progress.stop();
  }
  await tally.summarize(failure === undefined);
  if (failure !== undefined) {
    throw stopped(failure, interruption.signal, paths.includes("-"));
  }
  if (tally.bad > 0) process.exitCode = exitCodes.failed;
}

async function tellApart(
  inputs: Input[],
  { format, model, importId }: ImportFlags,
  signal: AbortSignal,
): Promise<SniffedInput[]> {
  const { sniff } = await import("../import/sniff.js");
  const told: SniffedInput[] = [];
  for (const input of inputs) {
    told.push(format === "auto" ? await sniff(input, signal) : { input, form: format });
  }
  for (const { input, form } of told) {
    if (form === "agentstore" && model !== undefined) {
      throw new UsageError(`${input.name} is an export, whose sessions have models`, "No --model.");
    }
    if (form === "conversations" && importId !== undefined) {
      throw new UsageError(`${input.name} is no export`, "--import-id is for exports alone.");
    }
  }
  return told;
}

/** Inputs of one form that follow on each other. */
interface Run {
  form: Form;
  inputs: Input[];
}

function runs(sniffed: SniffedInput[]): Run[] {
  const found: Run[] = [];
  for (const { input, form } of sniffed) {
    const last = found.at(-1);
    if (last?.form === form) last.inputs.push(input);
    else found.push({ form, inputs: [input] });
  }
  return found;
}

async function importRun(
  store: AgentStoreClient,
  { form, inputs }: Run,
  { model, importId }: ImportFlags,
  signal: AbortSignal,
  tally: Tally,
): Promise<void> {
  if (form === "conversations") {
    const { runImport } = await import("../import/run.js");
    await runImport(store, inputs, { model, signal }, tally);
    return;
  }
  const { importExportFile } = await import("../import/export-file.js");
  for (const input of inputs) {
    await importExportFile(store, input, importId, signal, tally.ofExport(input));
  }
}

/** What a person reads when an import ended before its time. */
function stopped(failure: unknown, signal: AbortSignal, piped: boolean): CliError {
  const resume = `What is imported stays. Run the same command ${piped ? "on the same input " : ""}again to go on.`;
  if (signal.aborted) return new CliError("interrupted", resume, exitCodes.interrupted);
  if (!(failure instanceof CliError)) {
    const message = failure instanceof Error ? failure.message : String(failure);
    return new CliError(`the import stopped: ${message}`, resume);
  }
  return new CliError(failure.message, `${failure.hint} ${resume}`.trim(), failure.exitCode);
}

/** Counts what an import does and tells it. */
class Tally implements ImportEvents {
  readonly #counts = { imported: 0, resumed: 0, "already there": 0, bad: 0 };
  readonly #bytesBefore = new Map<Input, number>();
  readonly #json: boolean;
  readonly #progress: Progress;
  #messages = 0;
  #warnings = 0;

  constructor(inputs: readonly Input[], json: boolean, progress: Progress) {
    let bytes = 0;
    for (const input of inputs) {
      this.#bytesBefore.set(input, bytes);
      bytes += input.size ?? 0;
    }
    this.#json = json;
    this.#progress = progress;
  }

  get bad(): number {
    return this.#counts.bad;
  }

  async line(report: LineReport): Promise<void> {
    this.#counts[report.status] += 1;
    this.#messages += report.messages ?? 0;
    const place = `${report.file}:${report.line}`;
    if (report.error !== undefined) this.#progress.note(`${place}: ${report.error}`);
    for (const warning of report.warnings ?? []) {
      this.#warnings += 1;
      this.#progress.note(`${place}: warning: ${warning}`);
    }
    if (this.#json) await writeJson({ ...report, status: jsonStatus(report.status) });
  }

  /** Takes what comes of an input that is an export. */
  ofExport(input: Input): ExportFileEvents {
    return {
      sessions: async (sessions: ImportedSession[], messages: bigint, bytes: number) => {
        this.#messages += Number(messages);
        for (const { replayed, sourceConversationId, conversationId } of sessions) {
          const status = replayed ? "already there" : "imported";
          this.#counts[status] += 1;
          const report = { status: jsonStatus(status), sourceConversationId, conversationId };
          if (this.#json) await writeJson({ file: input.name, ...report });
        }
        this.progress(input, bytes);
      },
    };
  }

  progress(input: Input, bytes: number): void {
    const conversations = Object.values(this.#counts).reduce((sum, count) => sum + count, 0);
    this.#progress.update((this.#bytesBefore.get(input) ?? 0) + bytes, conversations);
  }

  async summarize(complete: boolean): Promise<void> {
    const { imported, resumed, bad } = this.#counts;
    const alreadyThere = this.#counts["already there"];
    if (this.#json) {
      const messages = this.#messages;
      const warnings = this.#warnings;
      await writeJson({
        summary: { complete, imported, resumed, alreadyThere, bad, messages, warnings },
      });
      return;
    }
    const good = imported + resumed + alreadyThere;
    await write(
      `${count(good, "conversation")} with ${count(this.#messages, "message")}: ` +
        `${number(imported)} imported, ${number(resumed)} resumed, ` +
        `${number(alreadyThere)} already there. ` +
        `${bad === 0 ? "No bad lines" : count(bad, "bad line")}.\n`,
    );
    if (complete && good > 0) await write("`agentstore sessions` lists them.\n");
  }
}

function jsonStatus(status: LineReport["status"]): string {
  return status === "already there" ? "already_there" : status;
}

function count(value: number, noun: string): string {
  return `${number(value)} ${noun}${value === 1 ? "" : "s"}`;
}

function number(value: number): string {
  return value.toLocaleString("en");
}
