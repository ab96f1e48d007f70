"use strict";

// Submits one plan to Stagegate from a service of yours. Copy this folder, and `protos/stagegate`.
//
// No retries: what is asked again, with the same request_id, is asked by whoever decided so.

const fs = require("node:fs");
const path = require("node:path");
const { parseArgs } = require("node:util");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const PLACEHOLDER = Buffer.from("REPLACE_WITH_TOKEN");
// After 1 and 3 `effects` says what may have changed; after 69 nothing has.
const EXIT = { completed: 0, refused: 1, usage: 2, outcomeUnknown: 3, unreachable: 69 };

// Reasons after which the same request_id may learn more. Every other one is the last word.
const ASK_AGAIN = new Set([
  "", // no service answered, and bytes may have left
  "INTERNAL",
  "OUTCOME_PENDING",
  "OUTCOME_UNKNOWN",
  "OUTCOME_UNRECORDED",
  "REQUEST_IN_PROGRESS",
]);

// How the server's gRPC refuses a call that it has no room for, before any code of the service sees
// it: the plan did not start. It gives no reason, and an answer of the service always does.
const NO_ROOM = "Concurrent RPC limit exceeded!";

// `protos` is the folder that holds `stagegate/`.
function load(protos) {
  return loader.loadSync(
    [
      "stagegate/stage4/v1/plan_service.proto",
      "stagegate/error/v1/plan_outcome.proto",
      "google/rpc/rich_errors.proto",
    ],
    { includeDirs: [protos, __dirname], keepCase: true, enums: String, defaults: true, oneofs: true },
  );
}

// A client that shows `keys`.crt and talks only to a server certified as `serverName`.
function connect(definition, { address, serverName, authority, keys }) {
  const credentials = grpc.credentials.createSsl(
    fs.readFileSync(authority),
    fs.readFileSync(`${keys}.key`),
    fs.readFileSync(`${keys}.crt`),
  );
  const { PlanService } = grpc.loadPackageDefinition(definition).stagegate.stage4.v1;
  return new PlanService(address, credentials, {
    "grpc.ssl_target_name_override": serverName,
    "grpc.default_authority": serverName,
    "grpc.enable_retries": 0,
    "grpc.enable_http_proxy": 0,
    "grpc.service_config_disable_resolution": 1,
  });
}

// Submits the plan once, on a client that is ready. Keep `requestId` before you call: with it, and
// the same plan, you learn later what became of a lost answer, and nothing is executed twice.
function execute(client, definition, planJson, requestId, timeoutMs) {
  const request = { plan_json: planJson, request_id: requestId };
  return new Promise((resolve, reject) => {
    client.ExecutePlan(request, { deadline: Date.now() + timeoutMs }, (error, response) =>
      error ? reject(readError(definition, error, requestId)) : resolve(response),
    );
  });
}

// Reads the google.rpc.Status of a failed call: ErrorInfo, BadRequest and PlanOutcome.
function readError(definition, error, requestId) {
  const found = {};
  const [trailer] = error.metadata.get("grpc-status-details-bin");
  if (trailer !== undefined) {
    for (const detail of definition["google.rpc.Status"].deserialize(trailer).details) {
      const name = detail.type_url.split("/").pop();
      found[name] = definition[name]?.deserialize(detail.value);
    }
  }
  const noRoom =
    trailer === undefined &&
    error.code === grpc.status.RESOURCE_EXHAUSTED &&
    error.details === NO_ROOM;
  const info = found["google.rpc.ErrorInfo"] ?? { reason: noRoom ? "OVERLOADED" : "" };
  const outcome = found["stagegate.error.v1.PlanOutcome"];
  // A refusal that names its reason and no outcome came before anything was started. Whatever no
  // service explained may have happened after bytes had left.
  return Object.assign(new Error(error.details), {
    facts: {
      code: grpc.status[error.code],
      reason: info.reason,
      message: error.details,
      effects: outcome
        ? outcome.effects.replace("EFFECTS_", "").toLowerCase()
        : ASK_AGAIN.has(info.reason) ? "unknown" : "none",
      plan_id: outcome?.plan_id ?? "",
      request_id: outcome?.request_id || requestId,
      step: outcome?.step ?? null,
      violations: (found["google.rpc.BadRequest"]?.field_violations ?? []).map((violation) => [
        violation.field,
        violation.description,
      ]),
    },
  });
}

// The plan's own bytes, the token in its place and nothing else new.
function readPlan(plan, tokenFile) {
  const document = fs.readFileSync(plan);
  const token = Buffer.from(fs.readFileSync(tokenFile, "ascii").trim());
  const at = document.indexOf(PLACEHOLDER);
  if (at < 0) {
    return document;
  }
  return Buffer.concat([
    document.subarray(0, at),
    token,
    document.subarray(at + PLACEHOLDER.length),
  ]);
}

function waitUntilReady(client, timeoutMs) {
  return new Promise((resolve) => {
    client.waitForReady(Date.now() + timeoutMs, (error) => resolve(error === undefined));
  });
}

// One line of JSON on standard error, and the exit code.
function say(exitCode, facts) {
  process.stderr.write(`${JSON.stringify(facts)}\n`);
  process.exitCode = exitCode;
}

async function main() {
  const text = (value) => ({ type: "string", default: value });
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      address: text("127.0.0.1:7401"),
      "server-name": text(),
      authority: text(),
      keys: text(),
      "token-file": text(),
      "request-id": text(),
      "timeout-s": text("30"),
      "connect-timeout-s": text("5"),
      protos: text(path.join(__dirname, "..", "..", "..", "protos")),
    },
  });
  const missing = Object.keys(values).filter((name) => values[name] === undefined);
  const [plan] = positionals;
  if (plan === undefined || missing.length > 0) {
    return say(EXIT.usage, { reason: "USAGE", message: `missing: ${missing.join(", ") || "PLAN"}` });
  }
  let definition, client, planJson;
  try {
    planJson = readPlan(plan, values["token-file"]);
    definition = load(values.protos);
    client = connect(definition, { ...values, serverName: values["server-name"] });
  } catch (error) {
    return say(EXIT.usage, { reason: "USAGE", message: error.message });
  }
  try {
    if (!(await waitUntilReady(client, Number(values["connect-timeout-s"]) * 1000))) {
      return say(EXIT.unreachable, { reason: "UNREACHABLE", effects: "none" });
    }
    const timeoutMs = Number(values["timeout-s"]) * 1000;
    const answer = await execute(client, definition, planJson, values["request-id"], timeoutMs);
    process.stdout.write(Buffer.concat([answer.result_json, Buffer.from("\n")]));
    const { plan_id, request_id, replay } = answer;
    return say(EXIT.completed, { plan_id, request_id, replay });
  } catch (error) {
    if (error.facts === undefined) {
      throw error;
    }
    const isOpen = ASK_AGAIN.has(error.facts.reason);
    return say(isOpen ? EXIT.outcomeUnknown : EXIT.refused, error.facts);
  } finally {
    client.close();
  }
}

if (require.main === module) {
  main();
}

module.exports = { load, connect, execute, readPlan, waitUntilReady };
