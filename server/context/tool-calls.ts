// Which tool calls of a session no tool message answers.
import type { UnpairedToolCall } from "../../gen/agentstore/v1/context.js";
import { type AgentMessage, Role } from "../../gen/agentstore/v1/messages.js";

/** The calls of one assistant message that have no answer yet, in their order. */
type Turn = UnpairedToolCall[];

/**
 * Pairs calls with their answers, message by message in the order of seq.
 *
 * A tool message answers the latest open call with its tool_call_id. One without a
 * tool_call_id answers the latest open call without an id, else the first open call
 * of the latest message that has one: messages of older tables, which know no ids,
 * pair by their place.
 */
export class ToolCallPairing {
  // Both are stacks; turns that were closed out of turn are dropped when they surface.
  readonly #turns: Turn[] = [];
  readonly #byId = new Map<string, Turn[]>();

  /** Takes the next message. */
  take({ seq, role, toolCalls, toolCallId }: AgentMessage): void {
    if (toolCalls.length > 0) {
      const turn = toolCalls.map(({ id, name }) => ({ seq, toolCallId: id, name }));
      this.#turns.push(turn);
      for (const id of new Set(toolCalls.map((call) => call.id))) {
        const turns = this.#byId.get(id);
        if (turns) turns.push(turn);
        else this.#byId.set(id, [turn]);
      }
    }
    if (role !== Role.TOOL) return;
    if (!this.#answer(toolCallId) && toolCallId === "") this.#turns.at(-1)?.shift();
    while (this.#turns.at(-1)?.length === 0) this.#turns.pop();
  }

  /** The calls without an answer, in their order. */
  open(): UnpairedToolCall[] {
    return this.#turns.flat();
  }

  #answer(id: string): boolean {
    const turns = this.#byId.get(id) ?? [];
    for (let turn = turns.at(-1); turn; turn = turns.at(-1)) {
      const index = turn.findIndex((call) => call.toolCallId === id);
      if (index >= 0) {
        turn.splice(index, 1);
        return true;
      }
      turns.pop();
    }
    this.#byId.delete(id);
    return false;
  }
}
