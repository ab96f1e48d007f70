"use strict";

// A client of Stage-4 that shares no code with the services: it knows the protos and nothing else.
//
// Reads one job as JSON on standard input: where Stage-4 is, whose certificate to show, and calls
// to make, one after the other. Writes one JSON document: for each call its response, or its error
// with every detail decoded. Bytes travel as base64 in both directions.

const fs = require("node:fs");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const DETAILS_KEY = "grpc-status-details-bin";

function load(job) {
  return loader.loadSync(
    [
      "stagegate/stage4/v1/plan_service.proto",
      "stagegate/error/v1/plan_outcome.proto",
      "google/rpc/status.proto",
      "google/rpc/error_details.proto",
    ],
    {
      includeDirs: job.include_dirs,
      keepCase: true,
      longs: String,
      enums: String,
      bytes: String,
      defaults: true,
      oneofs: true,
    },
  );
}

function connect(job, definition) {
  const credentials = grpc.credentials.createSsl(
    fs.readFileSync(job.authority),
    fs.readFileSync(job.key),
    fs.readFileSync(job.certificate),
  );
  const { PlanService } = grpc.loadPackageDefinition(definition).stagegate.stage4.v1;
  return new PlanService(job.address, credentials, {
    "grpc.ssl_target_name_override": job.server_name,
    "grpc.default_authority": job.server_name,
    "grpc.enable_retries": 0,
  });
}

// google.rpc.Status, and in it messages of any type, each named by the last part of its URL.
function decodeDetails(definition, metadata) {
  const [trailer] = metadata.get(DETAILS_KEY);
  if (trailer === undefined) {
    return null;
  }
  const status = definition["google.rpc.Status"].deserialize(trailer);
  const details = {};
  for (const detail of status.details) {
    const name = detail.type_url.split("/").pop();
    const value = Buffer.from(detail.value, "base64");
    details[name] = definition[name].deserialize(value);
  }
  return { code: status.code, message: status.message, details };
}

function describeError(definition, error) {
  return {
    error: {
      code: grpc.status[error.code],
      message: error.details,
      status: decodeDetails(definition, error.metadata),
    },
  };
}

function callOnce(client, definition, { method, request, timeout_ms: timeout }) {
  return new Promise((resolve) => {
    const deadline = Date.now() + (timeout ?? 20_000);
    client[method](request, { deadline }, (error, response) => {
      resolve(error ? describeError(definition, error) : { response });
    });
  });
}

async function main() {
  const job = JSON.parse(fs.readFileSync(0, "utf8"));
  const definition = load(job);
  const client = connect(job, definition);
  const answers = [];
  for (const call of job.calls) {
    answers.push(await callOnce(client, definition, call));
  }
  client.close();
  process.stdout.write(JSON.stringify(answers));
}

main();
