// All that `@agentstore/client/agent` exports: dialogues with tools, and what they are made of.
export type { ChatFunction, ChatReply, ChatRequest } from "./chat.js";
export type * from "./dialogue.js";
export * from "./errors.js";
export type { LeaseOptions } from "./lease-keeper.js";
export {
  type DialogueOptions,
  PersistentDialogue,
  type SendOptions,
  type StartOptions,
} from "./persistent-dialogue.js";
export { ToolExecutor, type ToolExecutorOptions } from "./tool-executor.js";
export type { JsonSchema, Tool, ToolContext, ToolDefinition } from "./tools.js";
export type { ContextBudget } from "./transcript.js";
