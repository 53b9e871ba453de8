// What a dialogue tells about itself: its steps as they happen, and its result.
import type { OpenAiMessage } from "../openai.js";
import type { AgentMessage, NewUsage } from "../types.js";

/** A tool call that has no result. */
export interface PendingCall {
  /** The call's id. */
  id: string;
  /** The tool's name. */
  name: string;
  /** The arguments as the model wrote them: commonly JSON text. */
  arguments: string;
}

/** How a tool call came out. All but `succeeded` are told to the model as an error. */
export type ToolOutcome =
  | "succeeded"
  /** The tool threw an error. */
  | "failed"
  /** It took too long and was cancelled; whether it took effect is not known. */
  | "timed_out"
  /** Its result was too long to be taken; it took effect. */
  | "too_large"
  /** There is no tool of that name; nothing was run. */
  | "unknown_tool"
  /** The arguments were not a JSON object; nothing was run. */
  | "invalid_arguments";

/** A tool call that was carried out, or answered in its place. */
export interface ToolExecution {
  callId: string;
  /** The tool's name, as the model wrote it. */
  name: string;
  /** The arguments, as the model wrote them. */
  arguments: string;
  outcome: ToolOutcome;
  /** What the model is told. */
  content: string;
  /** How long it took, in milliseconds. */
  durationMs: number;
}

/** Something that happened in a dialogue. */
export type DialogueStep =
  | {
      /** The system message of a new session, or what a user said. */
      kind: "system" | "user";
      message: OpenAiMessage;
      /** The message as the session keeps it. */
      stored: AgentMessage;
    }
  | {
      /** The model's turn. */
      kind: "assistant";
      message: OpenAiMessage;
      usage?: NewUsage | undefined;
      /** Whether the answer broke off. */
      incomplete: boolean;
      /** The message as the session keeps it; absent without a session. */
      stored?: AgentMessage | undefined;
    }
  | {
      /** A tool call is about to start. */
      kind: "tool_call";
      call: PendingCall;
    }
  | {
      /** A tool call has come out; in the order in which they do. */
      kind: "tool_result";
      message: OpenAiMessage;
      execution: ToolExecution;
      /** The message as the session keeps it; absent without a session. */
      stored?: AgentMessage | undefined;
    };

/** Why a dialogue stopped. */
export type StopReason =
  /** The model answered without calling a tool. */
  | "answered"
  /** The model was asked as often as allowed, and called tools each time; they have results. */
  | "max_rounds"
  /** There are tool calls without results, about which the caller decides. */
  | "pending"
  /** The model's answer broke off; `response` is what had arrived. */
  | "incomplete"
  /** The signal aborted; what was done until then is in `messages`. */
  | "aborted";

/** How a dialogue went. */
export interface DialogueResult {
  /** The text of the model's last turn; empty when there was none. */
  response: string;
  stopped: StopReason;
  /** Why, where `stopped` is `incomplete` or `aborted`, if it is known. */
  cause?: unknown;
  /** How often the model was asked. */
  rounds: number;
  /** The tool calls that were carried out, in the order of the calls. */
  executions: ToolExecution[];
  /** The whole conversation, results in the order of their calls. */
  messages: OpenAiMessage[];
}

/** What every run of a dialogue accepts. */
export interface RunOptions {
  /** Ends the run soon, with the result `aborted`; nothing that was done until then is lost. */
  signal?: AbortSignal | undefined;
  /** Takes the model's text as it arrives. */
  onText?: ((delta: string) => void) | undefined;
  /** Told of each step when it has happened and, in a session, is kept; the run waits for it. */
  onStep?: ((step: DialogueStep) => void | Promise<void>) | undefined;
}
