// Hands the messages that this process has appended to the topics of their sessions, so that nothing
// has to be read for those who watch them: a few watchers at a time, and behind the answers to those
// who append.
import type { AgentMessage } from "../../gen/agentstore/v1/messages.js";
import { limits } from "../config.js";
import type { SessionTopic } from "./session-topic.js";

/** How long the answers to appends need until they are on their way, in milliseconds. */
const PAUSE_MS = 1;

/** How many watchers are told before the process does something else. */
const WATCHERS_A_TURN = 256;

/** Messages on their way to topics. What it does not take is read. */
export class Handover {
  readonly #waiting = new Map<SessionTopic, AgentMessage[]>();
  #characters = 0;

  /** Takes a message that was appended and committed; those of a session in their order. */
  add(topic: SessionTopic, message: AgentMessage): void {
    if (this.#characters >= limits.pageBytes) return;
    if (this.#waiting.size === 0) setTimeout(() => this.#turn(), PAUSE_MS);
    this.#characters += message.content.length + message.payload.length;
    const others = this.#waiting.get(topic);
    if (others) others.push(message);
    else this.#waiting.set(topic, [message]);
  }

  #turn(): void {
    let told = 0;
    for (const [topic, messages] of this.#waiting) {
      if (told >= WATCHERS_A_TURN) {
        setImmediate(() => this.#turn());
        return;
      }
      this.#waiting.delete(topic);
      told += topic.watchers;
      topic.append(messages);
      for (const { content, payload } of messages) {
        this.#characters -= content.length + payload.length;
      }
    }
  }
}
