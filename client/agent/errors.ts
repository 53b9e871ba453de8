// The errors that a dialogue throws besides those of the store.
import type { DialogueResult, PendingCall } from "./dialogue.js";

/**
 * The model could not be asked. `cause` is the chat function's error; `result` is what was done
 * until then. Nothing is lost: going on from `result.messages`, or with `continue()`, asks again.
 */
export class ChatError extends Error {
  static {
    ChatError.prototype.name = "ChatError";
  }

  constructor(
    cause: unknown,
    /** What was done until then; `stopped` is `incomplete`. */
    readonly result: DialogueResult,
  ) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    super(`the model could not be asked: ${reason}`, { cause });
  }
}

/**
 * The session has tool calls that were begun and whose outcome is not known, so that no new message
 * can be sent: execute them, supply their results, or repair the session.
 */
export class PendingCallsError extends Error {
  static {
    PendingCallsError.prototype.name = "PendingCallsError";
  }

  constructor(
    /** The calls without results. */
    readonly calls: readonly PendingCall[],
  ) {
    const names = calls.map(({ name }) => JSON.stringify(name)).join(", ");
    super(
      `${calls.length} tool ${calls.length === 1 ? "call has" : "calls have"} no result (${names}): ` +
        "executePending(), supplyResult() or repair() decides about them",
    );
  }
}
