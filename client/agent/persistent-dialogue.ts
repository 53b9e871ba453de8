// A dialogue that lives in a session: kept as it happens, resumed where it stopped.
import type { AgentStoreClient } from "../agent-store-client.js";
import { LeaseLostError } from "../errors.js";
import { int64 } from "../fields.js";
import { fromLlmMessage, type OpenAiMessage } from "../openai.js";
import type { CreateSessionOptions } from "../options.js";
import type { AgentMessage } from "../types.js";
import type { DialogueResult, DialogueStep, PendingCall, RunOptions } from "./dialogue.js";
import { PendingCallsError } from "./errors.js";
import { textOf, toolCallsOf, unansweredCalls } from "./history.js";
import { LeaseKeeper, type LeaseOptions } from "./lease-keeper.js";
import { type SharedRunOptions, ToolExecutor, type ToolExecutorOptions } from "./tool-executor.js";
import { type ContextBudget, Transcript } from "./transcript.js";
import { linked } from "./waiting.js";

/** How a dialogue runs. */
export interface DialogueOptions extends ToolExecutorOptions, LeaseOptions {
  /** What the model is told first: the first message of a session that has none yet. */
  system?: string | undefined;
  /**
   * What becomes of tool calls that were interrupted: they have no result, and whether they took
   * effect is not known. `pending`: the caller decides about each. `execute`: they are carried out
   * again. Default: `pending`.
   */
  interruptedCalls?: "execute" | "pending" | undefined;
  /**
   * How much of the session the model is sent, chosen anew at the beginning of each turn: the
   * leading system messages, and the newest messages that fit. What a turn adds comes on top.
   * Default: the whole session.
   */
  context?: ContextBudget | undefined;
  /** Ends the wait for the lease, and the loading. */
  signal?: AbortSignal | undefined;
}

/** How a new dialogue runs, and what its session is given. */
export interface StartOptions
  extends DialogueOptions,
    Pick<CreateSessionOptions, "title" | "ownerId" | "tags" | "metadata" | "expiresAt"> {
  /**
   * Makes the start repeatable: up to 128 characters. A start with the same id and the same session
   * again resumes the session that the first one created.
   */
  requestId?: string | undefined;
}

/** How a user's message is sent. */
export interface SendOptions extends RunOptions {
  /**
   * Makes the message repeatable, across processes too: up to 128 characters, unique in the session.
   * When it was sent before, it is not appended again: its turn goes on where it stopped, or, when
   * that is over, returns the answer that was given.
   */
  requestId?: string | undefined;
}

/**
 * A dialogue with tools whose every step is in the store when the next one begins: what the user
 * says, the model's turn before its tools are run, and each tool's result as soon as it comes out.
 * So a process may end anywhere, and another one resumes the dialogue where it stopped.
 *
 * ```ts
 * const dialogue = await PersistentDialogue.start(store, "gpt-4", { chat, tools, system });
 * const { response } = await dialogue.send("What time is it?");
 * await dialogue.close();
 * ```
 *
 * While it is open it holds the session's lease, so that nobody else runs the dialogue. Errors of
 * the store are thrown as they are. After one, `continue()` goes on, as it does after a `ChatError`
 * and an abort; after a `LeaseLostError` the dialogue is over.
 */
export class PersistentDialogue {
  /** The session. */
  readonly conversationId: bigint;
  readonly #store: AgentStoreClient;
  readonly #executor: ToolExecutor;
  readonly #lease: LeaseKeeper;
  readonly #transcript: Transcript;
  readonly #executesInterrupted: boolean;
  readonly #closing = new AbortController();
  #turn: Promise<unknown> | undefined;

  private constructor(
    store: AgentStoreClient,
    conversationId: bigint,
    lease: LeaseKeeper,
    executor: ToolExecutor,
    options: DialogueOptions,
  ) {
    this.conversationId = conversationId;
    this.#store = store;
    this.#executor = executor;
    this.#lease = lease;
    this.#transcript = new Transcript(store, conversationId, lease, options.context);
    this.#executesInterrupted = options.interruptedCalls === "execute";
  }

  /**
   * Creates a session and begins a dialogue in it.
   *
   * @param modelId the model that the session talks to, 1 to 256 characters
   * @throws TypeError when an option of the executor is out of its range
   */
  static async start(
    store: AgentStoreClient,
    modelId: string,
    options: StartOptions,
  ): Promise<PersistentDialogue> {
    const executor = new ToolExecutor(options);
    const { title, ownerId, tags, metadata, expiresAt, requestId, signal } = options;
    const session = await store.createSession(modelId, {
      title,
      ownerId,
      tags,
      metadata,
      expiresAt,
      requestId,
      signal,
    });
    return PersistentDialogue.#open(store, session.id, executor, options);
  }

  /**
   * Goes on with a dialogue where it stopped: loads the session and finds the tool calls that have
   * no results. Nothing is run before `send` or `continue`.
   *
   * @throws InvalidFieldError when the id is no 64-bit integer
   * @throws SessionNotFoundError
   * @throws LeaseHeldError when someone else runs the dialogue
   * @throws BudgetTooSmallError when the leading system messages, or the newest turn, exceed the
   *   budget of `context`
   * @throws TypeError when an option of the executor is out of its range
   */
  static async resume(
    store: AgentStoreClient,
    conversationId: bigint | number,
    options: DialogueOptions,
  ): Promise<PersistentDialogue> {
    return PersistentDialogue.#open(
      store,
      int64(conversationId, "conversation_id"),
      new ToolExecutor(options),
      options,
    );
  }

  static async #open(
    store: AgentStoreClient,
    conversationId: bigint,
    executor: ToolExecutor,
    options: DialogueOptions,
  ): Promise<PersistentDialogue> {
    const lease = await LeaseKeeper.acquire(store, conversationId, options, options.signal);
    try {
      const dialogue = new PersistentDialogue(store, conversationId, lease, executor, options);
      await dialogue.#transcript.refresh(options.signal);
      if (options.system !== undefined && dialogue.#transcript.lastSeq === 0n) {
        const message = { role: "system", content: options.system };
        await dialogue.#append("system", message);
      }
      return dialogue;
    } catch (error) {
      await lease.release().catch(() => {});
      throw error;
    }
  }

  /** The tool calls that have no results, in their order; of what was last loaded. */
  get pendingCalls(): PendingCall[] {
    return unansweredCalls(this.#transcript.messages);
  }

  /** The conversation as the model is sent it; of what was last loaded. */
  get messages(): OpenAiMessage[] {
    return this.#transcript.view;
  }

  /**
   * Sends what a user says, and runs the dialogue until the model has answered.
   *
   * @throws PendingCallsError when there are tool calls about which the caller is to decide; the
   *   message is then not appended
   * @throws ChatError when the model cannot be asked; the message is kept
   * @throws AgentStoreError when the store cannot be used; sending the same text again then does not
   *   append it twice
   * @throws the signal's reason when it aborts before the message is appended
   */
  async send(text: string, options: SendOptions = {}): Promise<DialogueResult> {
    return this.#run(options, async (run, settled) => {
      const pending = this.pendingCalls;
      if (pending.length > 0 && !this.#executesInterrupted) throw new PendingCallsError(pending);
      const interrupted = pending.length > 0 ? await this.#executePending(run) : undefined;
      run.signal?.throwIfAborted();
      const last = settled.at(-1);
      const isRepeat =
        options.requestId === undefined && last?.role === "user" && last.content === text;
      if (!isRepeat) {
        const before = this.#transcript.lastSeq;
        const message = { role: "user", content: text };
        const stored = await this.#append("user", message, options.requestId);
        if (stored.seq <= before) {
          const { messages, isOver } = await this.#transcript.turnAfter(stored.seq);
          const answer = answerOf(messages) ?? (isOver ? "" : undefined);
          if (answer !== undefined) return resultOf("answered", this.messages, answer);
        } else {
          await options.onStep?.({ kind: "user", message, stored });
        }
      }
      const result = await this.#executor.run(this.messages, run);
      result.executions.unshift(...(interrupted?.executions ?? []));
      return result;
    });
  }

  /**
   * Goes on where the dialogue stopped: carries out interrupted tool calls, if they are to be
   * executed, and asks the model unless it has answered already. An answer that broke off is asked
   * for anew.
   *
   * @returns a result that stopped as `pending`, with nothing done, when there are tool calls about
   *   which the caller is to decide
   * @throws ChatError when the model cannot be asked
   */
  async continue(options: RunOptions = {}): Promise<DialogueResult> {
    return this.#run(options, async (run) => {
      if (this.pendingCalls.length > 0) {
        if (!this.#executesInterrupted) return resultOf("pending", this.messages);
        await this.#lease.renew(run.signal);
        return this.#executor.run(this.messages, run);
      }
      const answer = answerOf(this.messages);
      if (answer !== undefined) return resultOf("answered", this.messages, answer);
      return this.#executor.run(this.messages, run);
    });
  }

  /**
   * Carries out the tool calls that have no results, and nothing more: `continue` goes on.
   *
   * @returns a result that stopped as `pending`, unless the signal aborted
   */
  async executePending(options: RunOptions = {}): Promise<DialogueResult> {
    return this.#run(options, (run) => this.#executePending(run));
  }

  /**
   * Answers a tool call that has no result, for example after finding out what became of it.
   *
   * @param callId one of `pendingCalls`
   * @param content what the model is told
   * @throws TypeError when there is no such call
   */
  async supplyResult(callId: string, content: string): Promise<void> {
    await this.#run({}, async () => {
      const call = this.pendingCalls.find(({ id }) => id === callId);
      if (call === undefined) {
        throw new TypeError(`no tool call ${JSON.stringify(callId)} is without a result`);
      }
      await this.#appendResult(callId, {
        role: "tool",
        tool_call_id: callId,
        name: call.name,
        content,
      });
    });
  }

  /** Answers all tool calls without results by saying that they were interrupted. */
  async repair(): Promise<void> {
    await this.#run({}, async () => {
      const { fencingToken } = this.#lease;
      while (this.pendingCalls.length > 0) {
        const closed = await this.#store.repairSession(this.conversationId, { fencingToken });
        await this.#transcript.refresh();
        if (closed.length === 0) return;
      }
    });
  }

  /** Ends the dialogue: a turn under way as its signal would, then the lease. May be repeated. */
  async close(): Promise<void> {
    this.#closing.abort(new Error("the dialogue was closed"));
    await this.#turn?.catch(() => {});
    await this.#lease.release();
  }

  /** Closes the dialogue at the end of an `await using` block. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  /** Runs one turn: with what is not settled settled, and the session as it is now. */
  async #run<T>(
    options: RunOptions,
    work: (run: SharedRunOptions, settled: AgentMessage[]) => Promise<T>,
  ): Promise<T> {
    const { lost } = this.#lease;
    for (const signal of [options.signal, this.#closing.signal, lost]) signal?.throwIfAborted();
    if (this.#turn) throw new Error("a turn of this dialogue is under way: await it first");
    const { controller, release } = linked([options.signal, this.#closing.signal, lost]);
    const { signal } = controller;
    const onStep = (step: DialogueStep): Promise<void> => this.#keep(step, options);
    const turn = (async () => {
      const settled = await this.#transcript.settle();
      await this.#transcript.refresh(signal);
      const heard = (): OpenAiMessage[] => this.#transcript.takeHeard();
      const result = await work({ signal, onText: options.onText, onStep, heard }, settled);
      lost.throwIfAborted();
      return result;
    })();
    this.#turn = turn;
    try {
      return await turn;
    } catch (error) {
      if (error instanceof LeaseLostError) this.#lease.lose(error);
      // What it broke off with does not matter to someone who has lost the session.
      lost.throwIfAborted();
      throw error;
    } finally {
      this.#turn = undefined;
      release();
    }
  }

  async #executePending(run: RunOptions): Promise<DialogueResult> {
    // No append has just shown that the lease is still this dialogue's.
    await this.#lease.renew(run.signal);
    return this.#executor.executePending(this.messages, run);
  }

  /** Appends what a step adds to the session, before anything further happens. */
  async #keep(step: DialogueStep, { onStep }: RunOptions): Promise<void> {
    if (step.kind === "assistant") {
      const stored = await this.#transcript.append({
        kind: "assistant",
        message: {
          ...fromLlmMessage(step.message),
          ...(step.usage === undefined ? {} : { usage: step.usage }),
          ...(step.incomplete ? { metadata: { incomplete: true } } : {}),
        },
      });
      await onStep?.({ ...step, stored });
    } else if (step.kind === "tool_result") {
      const stored = await this.#appendResult(step.execution.callId, step.message);
      await onStep?.({ ...step, stored });
    } else {
      await onStep?.(step);
    }
  }

  async #append(
    kind: "system" | "user",
    message: OpenAiMessage,
    requestId?: string,
  ): Promise<AgentMessage> {
    return this.#transcript.append({ kind, message: fromLlmMessage(message), requestId });
  }

  /** What a tool did is done: its result is kept whatever else was said meanwhile. */
  async #appendResult(callId: string, message: OpenAiMessage): Promise<AgentMessage> {
    return this.#transcript.append({
      kind: "tool",
      key: callId,
      message: fromLlmMessage(message),
      anywhere: true,
    });
  }
}

/** The text with which messages end, if that is a model's answer; undefined when it is not. */
function answerOf(messages: readonly OpenAiMessage[]): string | undefined {
  // What an application adds for the model is no question.
  const last = messages.findLast(({ role }) => role !== "system" && role !== "developer");
  return last?.role === "assistant" && toolCallsOf(last).length === 0 ? textOf(last) : undefined;
}

/** The result of a turn in which nothing had to be done. */
function resultOf(
  stopped: "answered" | "pending",
  messages: OpenAiMessage[],
  response = "",
): DialogueResult {
  return { response, stopped, rounds: 0, executions: [], messages };
}
