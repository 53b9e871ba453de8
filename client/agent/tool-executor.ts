// Runs a dialogue with tools: asks the model, carries out what it calls, and asks again.
import type { OpenAiMessage } from "../openai.js";
import type { ChatFunction, ChatReply } from "./chat.js";
import type {
  DialogueResult,
  DialogueStep,
  RunOptions,
  StopReason,
  ToolExecution,
} from "./dialogue.js";
import { ChatError } from "./errors.js";
import { inCallOrder, textOf, toolCallsOf, unansweredCalls } from "./history.js";
import { runTool, type ToolLimits } from "./run-tool.js";
import { type Tool, type ToolDefinition, toolDefinition, toolsByName } from "./tools.js";
import { keptTurn } from "./turn.js";
import { ABANDONED, eachLimited, linked, settledOrAbandoned } from "./waiting.js";

/** What a ToolExecutor is made of. */
export interface ToolExecutorOptions {
  /** Asks the model. */
  chat: ChatFunction;
  /** What the model may call, each by a name of its own. Default: none. */
  tools?: readonly Tool[] | undefined;
  /** How often one run asks the model at the most, 1 or more. Default: 10. */
  maxRounds?: number | undefined;
  /** How many tool calls of one turn run at a time, 1 or more. Default: 4. */
  concurrency?: number | undefined;
  /** How long one tool call may take, in milliseconds, 1 to 2,147,483,647. Default: 60,000. */
  toolTimeoutMs?: number | undefined;
  /**
   * How long a tool's result may be, in UTF-16 code units, 1 to 1,000,000; the model is told when
   * one is longer, and gets nothing of it. Default: 100,000.
   */
  maxResultLength?: number | undefined;
}

/** What a run accepts whose conversation others may take part in. */
export interface SharedRunOptions extends RunOptions {
  /** Returns what others have said since the model was last asked: it is sent that too. */
  heard?: (() => OpenAiMessage[]) | undefined;
}

/**
 * Runs dialogues with tools, in memory; `PersistentDialogue` runs them in a session.
 *
 * ```ts
 * const executor = new ToolExecutor({ chat, tools: [clock] });
 * const { response } = await executor.run([{ role: "user", content: "What time is it?" }]);
 * ```
 */
export class ToolExecutor {
  readonly #chat: ChatFunction;
  readonly #tools: ReadonlyMap<string, Tool>;
  readonly #definitions: readonly ToolDefinition[];
  readonly #maxRounds: number;
  readonly #concurrency: number;
  readonly #limits: ToolLimits;

  /**
   * @throws TypeError when an option is out of its range, or two tools have the same name
   */
  constructor(options: ToolExecutorOptions) {
    this.#chat = options.chat;
    this.#tools = toolsByName(options.tools ?? []);
    this.#definitions = [...this.#tools.values()].map(toolDefinition);
    this.#maxRounds = whole(options.maxRounds, 10, "maxRounds", Number.MAX_SAFE_INTEGER);
    this.#concurrency = whole(options.concurrency, 4, "concurrency", 1_000);
    this.#limits = {
      timeoutMs: whole(options.toolTimeoutMs, 60_000, "toolTimeoutMs", 2 ** 31 - 1),
      resultLength: whole(options.maxResultLength, 100_000, "maxResultLength", 1_000_000),
    };
  }

  /**
   * Goes on with a conversation until the model answers without calling a tool. Tool calls of the
   * history that have no results yet are carried out first.
   *
   * Whatever goes wrong with a tool is told to the model. Running out of rounds, an answer that
   * breaks off and an abort are results too.
   *
   * @param history the conversation so far; it is not changed
   * @throws ChatError when the model cannot be asked
   * @throws whatever `onStep` or `onText` throws; tools under way are then told to stop
   */
  async run(
    history: readonly OpenAiMessage[],
    options: SharedRunOptions = {},
  ): Promise<DialogueResult> {
    return this.#bounded(history, options, async (run) => {
      for (;;) {
        await this.#carryOutCalls(run);
        if (run.signal.aborted) return run.result("aborted");
        if (run.rounds >= this.#maxRounds) return run.result("max_rounds");
        run.messages.push(...(options.heard?.() ?? []));
        const reply = await this.#ask(run);
        if (reply === ABANDONED) return run.result("aborted");
        await run.replied(reply);
        if (reply.incomplete) return run.result(run.signal.aborted ? "aborted" : "incomplete");
        if (toolCallsOf(reply.message).length === 0) return run.result("answered");
      }
    });
  }

  /**
   * Carries out the tool calls of a conversation that have no results yet, and nothing more.
   *
   * @returns a result that stopped as `pending`, unless the signal aborted
   * @throws whatever `onStep` throws
   */
  async executePending(
    history: readonly OpenAiMessage[],
    options: RunOptions = {},
  ): Promise<DialogueResult> {
    return this.#bounded(history, options, async (run) => {
      await this.#carryOutCalls(run);
      return run.result(run.signal.aborted ? "aborted" : "pending");
    });
  }

  async #bounded(
    history: readonly OpenAiMessage[],
    options: RunOptions,
    work: (run: Run) => Promise<DialogueResult>,
  ): Promise<DialogueResult> {
    const { controller, release } = linked([options.signal]);
    try {
      return await work(new Run(history, options, controller));
    } finally {
      release();
    }
  }

  /** Asks the model, and makes of its reply the turn that is kept. */
  async #ask(run: Run): Promise<ChatReply | typeof ABANDONED> {
    const { signal } = run;
    const request = {
      messages: inCallOrder(run.messages),
      tools: this.#definitions,
      signal,
      onText: run.options.onText,
    };
    run.rounds++;
    try {
      // In an async function, so that one that throws at once is no different.
      const asked = (async () => await this.#chat(request))();
      const reply = await settledOrAbandoned(asked, signal);
      return reply === ABANDONED ? ABANDONED : keptTurn(reply, run.messages);
    } catch (error) {
      if (signal.aborted) return ABANDONED;
      throw new ChatError(error, run.result("incomplete"));
    }
  }

  /** Carries out the calls without results; those that the signal ends stay without. */
  async #carryOutCalls(run: Run): Promise<void> {
    const calls = unansweredCalls(run.messages);
    const came: ({ message: OpenAiMessage; execution: ToolExecution } | undefined)[] = [];
    await eachLimited(calls, this.#concurrency, async (call, index) => {
      if (run.signal.aborted) return;
      try {
        await run.tell({ kind: "tool_call", call });
        const execution = await runTool(this.#tools, call, this.#limits, run.signal);
        if (execution === undefined) return;
        const message = toolMessage(execution);
        came[index] = { message, execution };
        await run.tell({ kind: "tool_result", message, execution });
      } catch (error) {
        run.stop(error);
        throw error;
      }
    });
    for (const result of came) {
      if (result === undefined) continue;
      run.messages.push(result.message);
      run.executions.push(result.execution);
    }
  }
}

/** One run: what has come of it so far. */
class Run {
  readonly messages: OpenAiMessage[];
  readonly executions: ToolExecution[] = [];
  readonly #controller: AbortController;
  rounds = 0;
  #response = "";
  #cause: unknown;

  constructor(
    history: readonly OpenAiMessage[],
    readonly options: RunOptions,
    controller: AbortController,
  ) {
    this.messages = [...history];
    this.#controller = controller;
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Tells all that is under way to stop. */
  stop(reason: unknown): void {
    this.#controller.abort(reason);
  }

  async replied(reply: ChatReply): Promise<void> {
    const { message, usage, incomplete = false, cause } = reply;
    this.messages.push(message);
    this.#response = textOf(message);
    this.#cause = cause;
    await this.tell({ kind: "assistant", message, usage, incomplete });
  }

  async tell(step: DialogueStep): Promise<void> {
    await this.options.onStep?.(step);
  }

  result(stopped: StopReason): DialogueResult {
    const { rounds, executions, messages } = this;
    const cause: unknown = this.#cause ?? (stopped === "aborted" ? this.signal.reason : undefined);
    return { response: this.#response, stopped, cause, rounds, executions, messages };
  }
}

function toolMessage({ callId, name, content }: ToolExecution): OpenAiMessage {
  return { role: "tool", tool_call_id: callId, name, content };
}

function whole(value: number | undefined, otherwise: number, name: string, most: number): number {
  if (value === undefined) return otherwise;
  if (!Number.isInteger(value) || value < 1 || value > most) {
    throw new TypeError(`${name} must be a whole number from 1 to ${most}`);
  }
  return value;
}
