// Plays a history on a server and on the model at once, and holds every answer against the model.
import { randomUUID } from "node:crypto";
import { expect } from "vitest";
import { AgentStoreError } from "../../client/errors.js";
import { type AgentMessage, MessageOrder, Role } from "../../gen/agentstore/v1/messages.js";
import type { Expect, Range, SessionFields, Step } from "./histories.js";
import { Model, type Outcome, type Seen, type WriteName } from "./model.js";
import { newMessage, type RequestOf, type RpcName, type Stubs } from "./stubs.js";

type Unary = Exclude<RpcName, "streamMessages">;

interface Write {
  name: WriteName;
  request: RequestOf<WriteName> & { requestId?: string };
}

/** One history under way. Sessions are found by a model of the history's own. */
export class Replayer {
  readonly model = new Model();
  readonly #modelId = `model-${randomUUID()}`;
  readonly #writes: Write[] = [];

  constructor(readonly stubs: Stubs) {}

  async play(steps: Step[]): Promise<void> {
    for (const step of steps) await this.#step(step);
    // At the end all is read back, whatever the steps happened to read.
    for (const { session } of this.model.sessions) {
      const { id } = session;
      await this.#check("getSession", { conversationId: id }, (seen) =>
        this.model.getSession(id, seen),
      );
      await this.#check("getSessionStats", { conversationId: id }, () => this.model.stats(id));
      await this.#page(id, everything, 0, false);
    }
    await this.#list(100);
  }

  async #step(step: Step): Promise<void> {
    const { model } = this;
    switch (step.do) {
      case "create": {
        // request_ids of CreateSession are the tenant's, which other histories share.
        const requestId = step.requestId && `${this.#modelId}/${step.requestId}`;
        await this.#write("createSession", { modelId: this.#modelId, ...step.fields, requestId });
        return;
      }
      case "append": {
        const { session, messages, requestId } = step;
        const conversationId = this.#id(session);
        const expectedLastSeq = this.#expected(conversationId, step.expect);
        const request = { conversationId, messages, requestId, expectedLastSeq };
        await this.#write("addMessages", request);
        return;
      }
      case "append one": {
        const { session, message, requestId } = step;
        const conversationId = this.#id(session);
        const expectedLastSeq = this.#expected(conversationId, step.expect);
        await this.#write("addMessage", { conversationId, message, requestId, expectedLastSeq });
        return;
      }
      case "retry": {
        const write = this.#writes[step.request % Math.max(this.#writes.length, 1)];
        if (!write) return;
        const { name, request } = changed(write, step.change);
        await this.#write(name, request);
        return;
      }
      case "update": {
        const { fields, mask, requestId } = step;
        const session = sessionOf(this.#id(step.session), fields);
        await this.#write("updateSession", { session, updateMask: mask, requestId });
        return;
      }
      case "delete": {
        const conversationId = this.#id(step.session);
        await this.#write("deleteSession", { conversationId, requestId: step.requestId });
        return;
      }
      case "get session": {
        const id = this.#id(step.session);
        await this.#check("getSession", { conversationId: id }, (seen) =>
          model.getSession(id, seen),
        );
        return;
      }
      case "get message": {
        const request = { conversationId: this.#id(step.session), seq: BigInt(step.seq) };
        await this.#check("getMessage", request, () =>
          model.getMessage(request.conversationId, request.seq),
        );
        return;
      }
      case "page":
        await this.#page(this.#id(step.session), step.range, step.offset, step.appendBetween);
        return;
      case "stream":
        await this.#stream(this.#id(step.session), step.range);
        return;
      case "list":
        await this.#list(step.pageSize);
        return;
      case "stats": {
        const id = this.#id(step.session);
        await this.#check("getSessionStats", { conversationId: id }, () => model.stats(id));
        return;
      }
      case "search": {
        const { query, limit } = step;
        const found = () => model.search(this.#modelId, query, limit);
        await this.#check("searchMessages", { modelId: this.#modelId, query, limit }, () => ({
          answer: { results: found().map((message) => ({ message })) },
        }));
      }
    }
  }

  async #write<Name extends WriteName>(name: Name, request: RequestOf<Name>): Promise<void> {
    this.#writes.push({ name, request });
    await this.#check(name, request, (seen) => this.model.write(name, request, seen));
  }

  async #check<Name extends Unary>(
    name: Name,
    request: RequestOf<Name>,
    expected: (seen: Seen<Name>) => Outcome,
  ): Promise<void> {
    const from = Date.now();
    const outcome = await this.stubs.call(name, request).then(
      (answer) => ({ answer }),
      (error: unknown) => refusal(error),
    );
    const answer = "answer" in outcome ? outcome.answer : undefined;
    expect(outcome, name).toEqual(expected({ answer, from, to: Date.now() }));
  }

  // Follows the page tokens. What is appended after the first page belongs to no later one, as the
  // token holds the range.
  async #page(id: bigint, range: Range, offset: number, appendBetween: boolean): Promise<void> {
    const request = { ...rangeOf(id, range), offset: BigInt(offset) };
    const left = this.model.range(request);
    if (!left) {
      await this.#check("getMessages", request, () => this.model.stats(id));
      return;
    }
    const size = range.pageSize || 100;
    let pageToken = "";
    do {
      const page = await this.stubs.call("getMessages", { ...request, pageToken });
      expect(page.messages, "page").toEqual(left.splice(0, size));
      expect(page.nextPageToken !== "", "has a next page").toBe(left.length > 0);
      pageToken = page.nextPageToken;
      if (appendBetween) await this.#appendSomething(id);
    } while (pageToken !== "");
  }

  async #stream(id: bigint, range: Range): Promise<void> {
    const request = rangeOf(id, range);
    const left = this.model.range(request);
    const outcome = await this.stubs.readStream(request).then(
      (pages) => ({ pages }),
      (error: unknown) => refusal(error),
    );
    if (!left) {
      expect(outcome, "stream").toEqual(this.model.stats(id));
      return;
    }
    const size = range.pageSize || 100;
    const pages: { messages: AgentMessage[]; lastSeq: bigint }[] = [];
    while (left.length > 0) {
      const messages = left.splice(0, size);
      pages.push({ messages, lastSeq: messages.at(-1)!.seq });
    }
    expect(outcome, "stream").toEqual({ pages });
  }

  async #list(pageSize: number): Promise<void> {
    const listed = [];
    let pageToken = "";
    do {
      const request = { modelId: this.#modelId, pageSize, pageToken };
      const page = await this.stubs.call("listSessions", request);
      for (const { session } of page.sessions) this.model.observe(session, Date.now());
      listed.push(...page.sessions);
      pageToken = page.nextPageToken;
      expect(page.sessions.length, "size of the page").toBeLessThanOrEqual(pageSize);
      if (pageToken !== "") expect(page.sessions, "a page before the last").toHaveLength(pageSize);
    } while (pageToken !== "");
    expect(listed, "list").toEqual(this.model.list(this.#modelId));
  }

  async #appendSomething(conversationId: bigint): Promise<void> {
    const message = newMessage({ content: "meanwhile", role: Role.ASSISTANT });
    await this.#write("addMessage", { conversationId, message, requestId: "" });
  }

  #id(session: number): bigint {
    const { sessions } = this.model;
    return sessions[session % sessions.length]!.session.id;
  }

  #expected(id: bigint, what: Expect): bigint | undefined {
    const lastSeq = this.model.find(id)?.session.lastSeq ?? 0n;
    if (what === "nothing") return undefined;
    if (what === "too high") return lastSeq + 1n;
    // Too low can be right where there is nothing yet.
    return what === "too low" && lastSeq > 0n ? lastSeq - 1n : lastSeq;
  }
}

const everything: Range = {
  pageSize: 1_000,
  afterSeq: 0,
  beforeSeq: 0,
  lastN: 0,
  order: MessageOrder.OLDEST_FIRST,
};

function rangeOf(conversationId: bigint, range: Range) {
  return {
    conversationId,
    pageSize: range.pageSize,
    afterSeq: BigInt(range.afterSeq),
    beforeSeq: BigInt(range.beforeSeq),
    lastN: BigInt(range.lastN),
    order: range.order,
  };
}

function sessionOf(id: bigint, fields: SessionFields): RequestOf<"updateSession">["session"] {
  return { id, ...fields } as RequestOf<"updateSession">["session"];
}

// The same request once more, or one that differs in one thing.
function changed({ name, request }: Write, change: string): Write {
  if (change === "request_id") return { name, request: { ...request, requestId: randomUUID() } };
  if (change === "rpc" && name === "addMessage") {
    const { message, ...rest } = request as RequestOf<"addMessage">;
    return { name: "addMessages", request: { ...rest, messages: message ? [message] : [] } };
  }
  if (change === "nothing" || change === "rpc") return { name, request };
  switch (name) {
    case "createSession":
      return { name, request: { ...request, title: "another title" } };
    case "updateSession": {
      const { updateMask = [] } = request as RequestOf<"updateSession">;
      const other = updateMask.length > 1 ? updateMask.slice(1) : ["title", "owner_id"];
      return { name, request: { ...request, updateMask: other } };
    }
    case "addMessage": {
      const { message } = request as RequestOf<"addMessage">;
      const other = newMessage({ ...message, content: `${message?.content}.` });
      return { name, request: { ...request, message: other } };
    }
    case "addMessages": {
      const { messages = [] } = request as RequestOf<"addMessages">;
      return { name, request: { ...request, messages: [...messages, newMessage()] } };
    }
    case "deleteSession":
      return { name, request };
  }
}

function refusal(error: unknown): { reason: string; metadata: Record<string, string> } {
  if (!(error instanceof AgentStoreError)) throw error;
  return { reason: error.reason, metadata: { ...error.metadata } };
}
