// Runs this suite alone, against a server that AGENTSTORE_E2E_ADDRESS names or one of its own:
//   AGENTSTORE_E2E_ADDRESS=127.0.0.1:50051 npx vitest run --config test/e2e/vitest.config.ts
import path from "node:path";
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    root: path.resolve(import.meta.dirname, "../.."),
    include: ["test/e2e/**/*.test.ts"],
    // A database is needed only where a server is started.
    globalSetup: process.env["AGENTSTORE_E2E_ADDRESS"] ? [] : ["test/harness/global-setup.ts"],
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
