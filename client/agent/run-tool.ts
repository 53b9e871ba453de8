// Carries out one tool call: whatever goes wrong becomes something that the model is told.
import type { PendingCall, ToolExecution, ToolOutcome } from "./dialogue.js";
import type { Tool } from "./tools.js";
import { ABANDONED, linked, settledOrAbandoned } from "./waiting.js";

/** What bounds a tool call. */
export interface ToolLimits {
  /** How long it may take, in milliseconds. */
  timeoutMs: number;
  /** How long its result may be, in UTF-16 code units. */
  resultLength: number;
}

/**
 * Carries out one tool call.
 *
 * @param signal ends it
 * @returns how it came out; undefined when the signal ended it, so that its outcome is not known
 */
export async function runTool(
  tools: ReadonlyMap<string, Tool>,
  call: PendingCall,
  limits: ToolLimits,
  signal: AbortSignal,
): Promise<ToolExecution | undefined> {
  const startedAt = performance.now();
  const came = await outcomeOf(tools, call, limits, signal);
  if (came === undefined) return undefined;
  const tooLong = came.content.length > limits.resultLength;
  return {
    callId: call.id,
    name: call.name,
    arguments: call.arguments,
    outcome: tooLong && came.outcome === "succeeded" ? "too_large" : came.outcome,
    content: tooLong
      ? `Error: what the tool returned is too long: ${came.content.length} characters, ` +
        `of at most ${limits.resultLength}. Ask for less.`
      : came.content,
    durationMs: performance.now() - startedAt,
  };
}

interface Came {
  outcome: ToolOutcome;
  content: string;
}

async function outcomeOf(
  tools: ReadonlyMap<string, Tool>,
  call: PendingCall,
  limits: ToolLimits,
  signal: AbortSignal,
): Promise<Came | undefined> {
  const tool = tools.get(call.name);
  if (tool === undefined) {
    const names = [...tools.keys()].join(", ") || "none";
    return {
      outcome: "unknown_tool",
      content: `Error: there is no tool named ${JSON.stringify(call.name)}. The tools are: ${names}.`,
    };
  }
  const args = parseArguments(call.arguments);
  if (typeof args === "string") {
    return { outcome: "invalid_arguments", content: `Error: ${args}. The tool was not run.` };
  }
  return await callTool(tool, args, call.id, limits.timeoutMs, signal);
}

/** The arguments as an object, or what is wrong with them. */
function parseArguments(text: string): Record<string, unknown> | string {
  // Some models write nothing at all for a tool without parameters.
  if (text.trim() === "") return {};
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    return `the arguments are not JSON: ${(error as Error).message}`;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    return "the arguments are not a JSON object";
  }
  return value as Record<string, unknown>;
}

async function callTool(
  tool: Tool,
  args: Record<string, unknown>,
  callId: string,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Came | undefined> {
  const { controller, release } = linked([signal]);
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<Came>((resolve) => {
    timer = setTimeout(() => {
      const message = `the tool did not answer within ${timeoutMs} ms and was cancelled`;
      controller.abort(new DOMException(message, "TimeoutError"));
      const content = `Error: ${message}. Whether it took effect is not known.`;
      resolve({ outcome: "timed_out", content });
    }, timeoutMs);
  });
  try {
    const context = { signal: controller.signal, callId };
    const work = Promise.resolve().then(() => tool.call(args, context));
    const came = await Promise.race([settledOrAbandoned(work.then(asCame), signal), timeout]);
    return came === ABANDONED ? undefined : came;
  } catch (error) {
    // What a tool throws when it is told to stop does not say how far it came.
    if (signal.aborted) return undefined;
    const reason = error instanceof Error ? error.message : String(error);
    return { outcome: "failed", content: `Error: the tool failed: ${reason}` };
  } finally {
    clearTimeout(timer);
    release();
  }
}

function asCame(result: unknown): Came {
  if (typeof result !== "string") throw new TypeError("it returned no text");
  return { outcome: "succeeded", content: result };
}
