// Tests which result answers which call, and in what order a model is sent them.
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { inCallOrder, textOf, unansweredCalls } from "../../../../client/agent/history.js";
import type { OpenAiMessage } from "../../../../client/index.js";
import { calling, result } from "./scripted.js";

const user = (content: string): OpenAiMessage => ({ role: "user", content });

describe("the order that a model is sent", () => {
  it("has a late result behind its call, in the order of the calls", () => {
    const asks = calling(["1", "a"], ["2", "b"]);
    const messages = [
      user("x"),
      asks,
      user("still there?"),
      result("2", "b", "two"),
      user("hello?"),
      result("1", "a", "one"),
    ];
    expect(inCallOrder(messages)).toEqual([
      user("x"),
      asks,
      result("1", "a", "one"),
      result("2", "b", "two"),
      user("still there?"),
      user("hello?"),
    ]);
  });

  it("leaves out results that answer nothing", () => {
    const asks = calling(["1", "a"]);
    const answered = [asks, result("1", "a", "one")];
    expect(
      inCallOrder([result("0", "a", "x"), ...answered, result("1", "a", "again"), user("x")]),
    ).toEqual([...answered, user("x")]);
  });

  it("gives a result to the newest turn that waits for it, when ids come again", () => {
    const first = calling(["1", "a"]);
    const second = calling(["1", "b"]);
    const messages = [first, second, result("1", "b", "two"), result("1", "a", "one")];
    expect(inCallOrder(messages)).toEqual([
      first,
      result("1", "a", "one"),
      second,
      result("1", "b", "two"),
    ]);
    expect(unansweredCalls(messages.slice(0, 3))).toEqual([
      { id: "1", name: "a", arguments: "{}" },
    ]);
  });

  it("pairs results without ids by their place", () => {
    const asks = calling(["", "a"], ["", "b"]);
    const bare = (content: string): OpenAiMessage => ({ role: "tool", content });
    expect(inCallOrder([asks, bare("one"), user("x"), bare("two")])).toEqual([
      asks,
      bare("one"),
      bare("two"),
      user("x"),
    ]);
    const named = calling(["1", "a"], ["2", "b"]);
    expect(unansweredCalls([named, bare("one")])).toMatchObject([{ id: "2" }]);
  });

  it("is, for any messages, one with each result behind its turn, and nothing else changed", () => {
    const id = fc.constantFrom("1", "2", "3");
    const message = fc.oneof(
      fc.string().map(user),
      fc
        .array(id, { minLength: 1, maxLength: 3 })
        .map((ids) => calling(...ids.map((each): [string, string] => [each, "t"]))),
      id.map((each) => result(each, "t", "r")),
    );
    fc.assert(
      fc.property(fc.array(message, { maxLength: 12 }), (messages) => {
        const ordered = inCallOrder(messages);
        const others = (list: OpenAiMessage[]) => list.filter(({ role }) => role !== "tool");
        expect(others(ordered)).toEqual(others(messages));
        expect(inCallOrder(ordered)).toEqual(ordered);
        let open: string[] = [];
        for (const each of ordered) {
          if (each.role === "tool") {
            expect(open).toContain(each.tool_call_id);
            open.splice(open.indexOf(each.tool_call_id!), 1);
          } else {
            open = (each.tool_calls ?? []).map((call) => call.id);
          }
        }
        const calls = messages.flatMap(({ tool_calls }) => tool_calls ?? []).length;
        const results = ordered.filter(({ role }) => role === "tool").length;
        expect(unansweredCalls(messages)).toHaveLength(calls - results);
      }),
    );
  });
});

describe("odd messages", () => {
  it("have no calls that could be answered", () => {
    const odd = {
      role: "assistant",
      tool_calls: [null, {}, { id: 5 }],
    } as unknown as OpenAiMessage;
    const another = { ...calling(["1", "a"]), role: "user" };
    expect(unansweredCalls([odd, another, { role: "assistant", tool_calls: null }])).toEqual([]);
  });

  it("have the text that there is", () => {
    const parts = [{ type: "text", text: "a" }, { type: "refusal" }, { type: "text", text: "b" }];
    expect(textOf({ role: "assistant", content: parts })).toBe("ab");
    expect(textOf({ role: "assistant", content: null })).toBe("");
    expect(textOf({ role: "assistant" })).toBe("");
  });
});
