/// <reference lib="esnext.disposable" preserve="true" />
// All that the client package exports. Of these modules, none but agent-store-client.js imports
// gRPC or generated code, and none in its types, so that they typecheck without Node's types.
export { AgentStoreClient } from "./agent-store-client.js";
export type * from "./audit-types.js";
export * from "./errors.js";
export * from "./openai.js";
export type * from "./operator-types.js";
export type * from "./options.js";
export type * from "./search-types.js";
export type * from "./transfer-types.js";
export type * from "./types.js";
