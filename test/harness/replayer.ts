// Plays a history on a server and on the model at once, and holds every answer against the model.
import { randomUUID } from "node:crypto";
import { expect } from "vitest";
import { AgentStoreError } from "../../client/errors.js";
import { AgentMessage, MessageOrder, Role } from "../../gen/agentstore/v1/messages.js";
import type { SessionFilter } from "../../gen/agentstore/v1/sessions.js";
import type { StateUpdate } from "../../gen/agentstore/v1/state.js";
import type { Expect, FilterChoice, Range, SessionFields, StateChange, Step } from "./histories.js";
import { Model, type Outcome, type Seen, type WriteName } from "./model.js";
import * as life from "./model-life.js";
import { getState } from "./model-state.js";
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
      await this.#readState(id);
      await this.#page(id, everything, 0, false);
      await this.#page(id, { ...everything, showDeleted: true }, 0, false);
      await this.#check("listSnapshots", { conversationId: id }, () =>
        life.listSnapshots(this.model, id),
      );
      for (const [place, versions] of this.model.find(id)?.versions.entries() ?? []) {
        if (versions.length > 1) {
          await this.#versions({ conversationId: id, seq: BigInt(place + 1) });
        }
      }
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
        const state = await this.#stateUpdate(conversationId, step.state);
        const request = { conversationId, messages, requestId, expectedLastSeq, state };
        await this.#write("addMessages", request);
        return;
      }
      case "append one": {
        const { session, message, requestId } = step;
        const conversationId = this.#id(session);
        const expectedLastSeq = this.#expected(conversationId, step.expect);
        const state = await this.#stateUpdate(conversationId, step.state);
        const request = { conversationId, message, requestId, expectedLastSeq, state };
        await this.#write("addMessage", request);
        return;
      }
      case "write state": {
        const conversationId = this.#id(step.session);
        const update = await this.#stateUpdate(conversationId, step);
        await this.#write("updateState", { conversationId, ...update, requestId: step.requestId });
        return;
      }
      case "read state":
        await this.#readState(this.#id(step.session));
        return;
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
        const { showDeleted } = step;
        const key = this.#key(step);
        const request = { ...key, version: BigInt(step.version), showDeleted };
        await this.#check("getMessage", request, () => life.getMessage(model, request));
        return;
      }
      case "versions":
        await this.#versions(this.#key(step));
        return;
      case "edit": {
        const { message: fields, mask, requestId } = step;
        const key = this.#key(step);
        const message = AgentMessage.fromPartial({ ...fields, ...key } as never);
        const expectedRevision = this.#expectedRevision(key, step.expect);
        const request = { message, updateMask: mask, requestId, expectedRevision };
        await this.#write("updateMessage", request);
        return;
      }
      case "delete message":
      case "undelete message": {
        const key = this.#key(step);
        const expectedRevision = this.#expectedRevision(key, step.expect);
        const name = step.do === "delete message" ? "deleteMessage" : "undeleteMessage";
        await this.#write(name, { ...key, requestId: step.requestId, expectedRevision });
        return;
      }
      case "revert": {
        const key = this.#key(step);
        const { requestId } = step;
        const expectedRevision = this.#expectedRevision(key, step.expect);
        const request = { ...key, version: BigInt(step.version), requestId, expectedRevision };
        await this.#write("revertMessage", request);
        return;
      }
      case "fork": {
        const { session, atSeq, requestId } = step;
        const conversationId = this.#id(session);
        const request = { conversationId, requestId };
        await this.#write(
          "forkSession",
          atSeq === undefined ? request : { ...request, atSeq: BigInt(atSeq) },
        );
        return;
      }
      case "take snapshot": {
        const { session, name, requestId } = step;
        await this.#write("createSnapshot", { conversationId: this.#id(session), name, requestId });
        return;
      }
      case "restore snapshot": {
        const { mode, requestId } = step;
        const key = this.#snapshotKey(step);
        const expectedRevision = this.#expectedRevision(key, step.expect);
        await this.#write("restoreSnapshot", { ...key, mode, requestId, expectedRevision });
        return;
      }
      case "delete snapshot": {
        const { requestId } = step;
        await this.#write("deleteSnapshot", { ...this.#snapshotKey(step), requestId });
        return;
      }
      case "read snapshots": {
        const key = this.#snapshotKey(step);
        const { conversationId, snapshotId } = key;
        await this.#check("getSnapshot", key, () =>
          life.getSnapshot(model, conversationId, snapshotId),
        );
        await this.#check("listSnapshots", { conversationId }, () =>
          life.listSnapshots(model, conversationId),
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
        await this.#list(step.pageSize, step.filter);
        return;
      case "stats": {
        const id = this.#id(step.session);
        await this.#check("getSessionStats", { conversationId: id }, () => model.stats(id));
        return;
      }
      case "search": {
        const { query, limit } = step;
        const modelId = this.#modelId;
        const { results } = await this.stubs.call("searchMessages", { modelId, query, limit });
        const found = results.map(({ message }) => message);
        expect(found, "searchMessages").toEqual(model.search(modelId, query, limit));
      }
    }
  }

  async #write<Name extends WriteName>(name: Name, request: RequestOf<Name>): Promise<void> {
    this.#writes.push({ name, request });
    const { sessions } = this.model;
    const before = sessions.length;
    await this.#check(name, request, (seen) => this.model.write(name, request, seen));
    const fork = sessions.length > before ? sessions.at(-1)!.session : undefined;
    if (fork?.parent) await this.#learnIds(fork.id);
    // Nor the etag of a state that came with a fork or a roll-back, which a refusal names.
    for (const { session, etag, deleted } of sessions) {
      if (etag === undefined && !deleted) await this.#readState(session.id);
    }
  }

  // The ids of a fork's messages: no answer but that of a read tells them.
  async #learnIds(conversationId: bigint): Promise<void> {
    const request = { conversationId, showDeleted: true, pageSize: 1_000 };
    const { messages } = await this.stubs.call("getMessages", request);
    life.learnIds(this.model, conversationId, messages);
    expect(messages, "the messages of a fork").toEqual(this.model.range(request));
  }

  async #versions(key: { conversationId: bigint; seq: bigint }): Promise<void> {
    const { conversationId, seq } = key;
    await this.#check("listMessageVersions", key, ({ answer }) =>
      life.listVersions(this.model, conversationId, seq, answer?.versions ?? []),
    );
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

  async #readState(conversationId: bigint): Promise<void> {
    await this.#check("getState", { conversationId }, (seen) =>
      getState(this.model, conversationId, seen),
    );
  }

  async #stateUpdate(
    conversationId: bigint,
    change: StateChange | undefined,
  ): Promise<StateUpdate | undefined> {
    if (!change) return undefined;
    const { document: state, expect } = change;
    if (expect === "nothing") return { state };
    const found = this.model.find(conversationId);
    // Of a fork, or after a roll-back, only a read tells it.
    if (found?.etag === undefined) await this.#readState(conversationId);
    const etag = found?.etag ?? "";
    if (expect === "right") return { state, expectedEtag: etag };
    const [before = "none"] = this.model.etags;
    const wrong = expect === "too low" && before !== etag ? before : `${etag}?`;
    return { state, expectedEtag: wrong };
  }

  #filter(choice: FilterChoice | undefined): SessionFilter | undefined {
    const session = choice && this.model.find(this.#id(choice.session))?.session;
    if (!session) return undefined;
    const chosen = (bits: number) => session.tags.filter((_, index) => bits & (1 << index));
    const [entry] = Object.entries(session.metadata ?? {});
    const listed = this.model.list(this.#modelId).find((one) => one.session === session);
    const start = listed?.lastMessageTime;
    return {
      allTags: chosen(choice.allTags),
      anyTags: chosen(choice.anyTags),
      ownerId: choice.owner ? session.ownerId : "",
      metadata: choice.metadata && entry ? { [entry[0]]: entry[1] } : undefined,
      state: choice.state,
      created: choice.created ? { start: session.createdAt, end: undefined } : undefined,
      lastMessage: choice.lastMessage && start ? { start, end: undefined } : undefined,
    };
  }

  async #list(pageSize: number, choice?: FilterChoice): Promise<void> {
    const filter = this.#filter(choice);
    const listed = [];
    let pageToken = "";
    do {
      const request = { modelId: this.#modelId, pageSize, pageToken, filter };
      const page = await this.stubs.call("listSessions", request);
      for (const { session } of page.sessions) this.model.observe(session, Date.now());
      listed.push(...page.sessions);
      pageToken = page.nextPageToken;
      expect(page.sessions.length, "size of the page").toBeLessThanOrEqual(pageSize);
      if (pageToken !== "") expect(page.sessions, "a page before the last").toHaveLength(pageSize);
    } while (pageToken !== "");
    expect(listed, "list").toEqual(this.model.list(this.#modelId, filter));
  }

  async #appendSomething(conversationId: bigint): Promise<void> {
    const message = newMessage({ content: "meanwhile", role: Role.ASSISTANT });
    await this.#write("addMessage", { conversationId, message, requestId: "" });
  }

  #id(session: number): bigint {
    const { sessions } = this.model;
    return sessions[session % sessions.length]!.session.id;
  }

  // A message that is there, where there is any; now and then the one behind the last.
  #key({ session, seq }: { session: number; seq: number }) {
    const conversationId = this.#id(session);
    const lastSeq = Number(this.model.find(conversationId)?.session.lastSeq ?? 0n);
    return { conversationId, seq: BigInt((seq % (lastSeq + 1)) + 1) };
  }

  // A snapshot of the session's; of another one, or none, where it has none.
  #snapshotKey({ session, snapshot }: { session: number; snapshot: number }) {
    const conversationId = this.#id(session);
    const own = this.model.find(conversationId)?.snapshots ?? [];
    const any = this.model.sessions.flatMap(({ snapshots }) => snapshots);
    const from = own.length > 0 ? own : any;
    const snapshotId = from[snapshot % Math.max(from.length, 1)]?.snapshot.id ?? 1n;
    return { conversationId, snapshotId };
  }

  // Of a message, or, without a seq, of a session.
  #expectedRevision(
    { conversationId, seq }: { conversationId: bigint; seq?: bigint },
    what: Expect,
  ): bigint | undefined {
    if (what === "nothing") return undefined;
    const found = this.model.find(conversationId);
    const of = seq === undefined ? found?.session : found?.messages[Number(seq) - 1];
    const revision = of?.revision ?? 1n;
    if (what === "right") return revision;
    return what === "too high" || revision === 1n ? revision + 1n : revision - 1n;
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
  showDeleted: false,
};

function rangeOf(conversationId: bigint, range: Range) {
  return {
    conversationId,
    pageSize: range.pageSize,
    afterSeq: BigInt(range.afterSeq),
    beforeSeq: BigInt(range.beforeSeq),
    lastN: BigInt(range.lastN),
    order: range.order,
    showDeleted: range.showDeleted,
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
    case "updateMessage": {
      const { updateMask = [] } = request as RequestOf<"updateMessage">;
      const other = updateMask.length > 1 ? updateMask.slice(1) : ["content", "name"];
      return { name, request: { ...request, updateMask: other } };
    }
    case "createSnapshot":
      return { name, request: { ...request, name: "another name" } };
    case "updateState":
      return { name, request: { ...request, state: "[5]" } };
    default:
      return { name, request };
  }
}

function refusal(error: unknown): { reason: string; metadata: Record<string, string> } {
  if (!(error instanceof AgentStoreError)) throw error;
  return { reason: error.reason, metadata: { ...error.metadata } };
}
