import { availableParallelism } from "node:os";
import { defineConfig } from "vitest/config";

// They wait for up to a minute and need no processor: they start first, and others run beside them.
const WAITING = [
  "test/integration/watch-silence.test.ts",
  "test/integration/workers-silence.test.ts",
];

// These kill servers, workers and databases again and again, and want the machine to themselves.
const ALONE = ["test/chaos/**/*.test.ts", "test/integration/workers.test.ts"];

const shared = {
  testTimeout: 60_000,
  hookTimeout: 60_000,
  // What is polled for comes late on a busy machine.
  expect: { poll: { timeout: 30_000 } },
};

// Also on two cores two files run at a time: much of what a file does is to wait.
const beside = {
  ...shared,
  maxWorkers: Math.max(2, availableParallelism() - 1),
  sequence: { groupOrder: 0 },
};

export default defineConfig({
  test: {
    // For all projects together, none of which inherits it: one Postgres serves the whole run.
    globalSetup: ["test/harness/global-setup.ts"],
    // Those of one group start in the order of their names.
    projects: [
      { test: { ...beside, name: "1-waiting", include: WAITING } },
      {
        test: {
          ...beside,
          name: "2-others",
          include: ["test/**/*.test.ts"],
          exclude: [...WAITING, ...ALONE],
        },
      },
      {
        test: {
          ...shared,
          name: "3-alone",
          include: ALONE,
          maxWorkers: 1,
          sequence: { groupOrder: 1 },
        },
      },
    ],
  },
});
