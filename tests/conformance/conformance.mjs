// Every call the SDK has for messages and models, and every way in which they fail.
import Anthropic from "@anthropic-ai/sdk";
import assert from "node:assert/strict";

const base = process.argv[2];
const model = "claude-opus-5-5";
const client = new Anthropic({ apiKey: "sk-ant-test", baseURL: base, maxRetries: 0, timeout: 5000 });
const hello = { model, max_tokens: 300, messages: [{ role: "user", content: "Say hello." }] };

let passed = 0;
let failed = 0;

// A check that hangs is a check that fails, and not a run that never ends. Connections
// that are broken on purpose get a second try: what is checked is the kind of error.
function within(ms, work) {
  let timer;
  const late = new Promise((_, no) => { timer = setTimeout(() => no(new Error("no end in time")), ms); });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

async function check(name, body) {
  try {
    await within(15000, body()).catch((e) => {
      if (e.message !== "no end in time") throw e;
      console.log(`     ${name}: ${e.message}, once more`);
      return within(15000, body());
    });
    passed++;
    console.log(`ok   ${name}`);
  } catch (e) {
    failed++;
    console.log(`FAIL ${name}: ${e.message.split("\n").slice(0, 6).join(" | ")}`);
  }
}

async function sim(path, body) {
  const answer = await fetch(`${base}/sim/${path}`, body && { method: "POST", body: JSON.stringify(body) });
  assert.equal(answer.status, 200, `/sim/${path}`);
  return answer.json();
}

async function raised(call) {
  try {
    await call();
  } catch (e) {
    return e;
  }
  throw new Error("nothing was raised");
}

// ---- what works ----

await check("messages.create gives a message", async () => {
  const { data, response, request_id } = await client.messages.create(hello).withResponse();
  assert.equal(data.type, "message");
  assert.equal(data.role, "assistant");
  assert.equal(data.model, model);
  assert.equal(data.stop_reason, "end_turn");
  assert.match(data.id, /^msg_/);
  assert.match(data.content[0].text, /Simulated answer.*Say hello/);
  assert.ok(data.usage.input_tokens > 0 && data.usage.output_tokens > 0);
  assert.match(request_id, /^req_/);
  assert.ok(response.headers.get("anthropic-organization-id"));
  assert.ok(response.headers.get("anthropic-workspace-id"));
  assert.equal(response.headers.get("anthropic-ratelimit-requests-limit"), null);
});

await check("the same request is answered with the same words", async () => {
  const [a, b] = await Promise.all([client.messages.create(hello), client.messages.create(hello)]);
  assert.equal(a.content[0].text, b.content[0].text);
});

await check("max_tokens cuts the answer and says so", async () => {
  const m = await client.messages.create({ ...hello, max_tokens: 7 });
  assert.equal(m.stop_reason, "max_tokens");
  assert.equal(m.usage.output_tokens, 7);
});

await check("messages.stream gives events that add up", async () => {
  const stream = client.messages.stream(hello);
  let text = "";
  stream.on("text", (piece) => (text += piece));
  const m = await stream.finalMessage();
  assert.equal(m.content[0].text, text);
  assert.equal(m.stop_reason, "end_turn");
  assert.ok(m.usage.output_tokens > 1);
});

await check("create with stream: true can be iterated", async () => {
  const types = [];
  for await (const event of await client.messages.create({ ...hello, stream: true }))
    if (types.at(-1) !== event.type) types.push(event.type);
  assert.deepEqual(types, ["message_start", "content_block_start", "content_block_delta",
    "content_block_stop", "message_delta", "message_stop"]);
});

await check("a slow stream arrives in pieces", async () => {
  await sim("set", { "latency.ttft": "30ms", "latency.per_token": "5ms" });
  const began = performance.now();
  let first = 0;
  const stream = client.messages.stream(hello);
  stream.on("text", () => (first ||= performance.now() - began));
  await stream.finalMessage();
  const all = performance.now() - began;
  await sim("set", { "latency.ttft": "0", "latency.per_token": "0" });
  assert.ok(first >= 29 && all > first + 50, `first ${first} ms, all ${all} ms`);
});

await check("countTokens counts", async () => {
  const { max_tokens, ...rest } = hello;
  const n = await client.messages.countTokens(rest);
  assert.ok(n.input_tokens > 0);
});

await check("beta.messages.create passes betas and unknown fields", async () => {
  const m = await client.beta.messages.create({ ...hello, betas: ["some-beta-2026-01-01"], something_new: { a: [1] } });
  assert.equal(m.type, "message");
});

await check("models.list pages through all models", async () => {
  const ids = [];
  for await (const m of client.models.list({ limit: 4 })) ids.push(m.id);
  assert.ok(ids.includes(model) && ids.length >= 10);
  assert.equal(new Set(ids).size, ids.length);
});

await check("models.list goes backwards with before_id", async () => {
  const all = (await client.models.list({ limit: 100 })).data;
  const page = await client.models.list({ limit: 2, before_id: all[5].id });
  assert.deepEqual(page.data.map((m) => m.id), [all[3].id, all[4].id]);
  assert.equal(page.has_more, true);
});

await check("models.retrieve knows ids and names without a date", async () => {
  assert.equal((await client.models.retrieve(model)).id, model);
  assert.equal((await client.models.retrieve("claude-haiku-4-5")).id, "claude-haiku-4-5-20251001");
});

await check("a cached prefix is written once and then read", async () => {
  const request = {
    ...hello,
    system: [{ type: "text", text: "All work and no play. ".repeat(400), cache_control: { type: "ephemeral" } }],
  };
  const first = await client.messages.create(request);
  const second = await client.messages.create({ ...request, messages: [{ role: "user", content: "Again?" }] });
  assert.ok(first.usage.cache_creation_input_tokens > 1000);
  assert.equal(second.usage.cache_read_input_tokens, first.usage.cache_creation_input_tokens);
  assert.equal(second.usage.cache_creation_input_tokens, 0);
});

// ---- what is wrong with a request ----

await check("an unknown model is a NotFoundError", async () => {
  const e = await raised(() => client.messages.create({ ...hello, model: "claude-none" }));
  assert.ok(e instanceof Anthropic.NotFoundError);
  assert.equal(e.error.error.message, "model: claude-none");
});

await check("no messages is a BadRequestError", async () => {
  const e = await raised(() => client.messages.create({ ...hello, messages: [] }));
  assert.ok(e instanceof Anthropic.BadRequestError);
  assert.equal(e.type, "invalid_request_error");
});

await check("temperature is refused under version 2026-10-21 alone", async () => {
  const e = await raised(() => client.messages.create({ ...hello, temperature: 0.5 }));
  assert.ok(e instanceof Anthropic.BadRequestError);
  const m = await client.messages.create({ ...hello, temperature: 0.5 }, { headers: { "anthropic-version": "2023-06-01" } });
  assert.equal(m.type, "message");
});

await check("a refused key is an AuthenticationError without a workspace", async () => {
  await sim("set", { "auth.refuse": "sk-ant-bad" });
  const bad = new Anthropic({ apiKey: "sk-ant-bad", baseURL: base, maxRetries: 0 });
  for (const call of [() => bad.messages.create(hello), () => bad.models.list()]) {
    const e = await raised(call);
    assert.ok(e instanceof Anthropic.AuthenticationError);
    assert.equal(e.error.error.message, "invalid x-api-key");
    assert.equal(e.headers.get("anthropic-workspace-id"), null);
  }
});

await check("a key in x-api-key is as good as a bearer", async () => {
  const m = await client.messages.create(hello, { headers: { authorization: null, "x-api-key": "sk-ant-test" } });
  assert.equal(m.type, "message");
});

await check("a body beyond 32 MB is a 413", async () => {
  const e = await raised(() => client.messages.create({ ...hello, messages: [{ role: "user", content: "x".repeat(33 << 20) }] }));
  assert.ok(e instanceof Anthropic.ContentTooLargeError, String(e));
  assert.equal(e.type, "request_too_large");
});

// ---- faults ----

const statuses = [
  ["400", 400, "BadRequestError", "invalid_request_error"],
  ["401", 401, "AuthenticationError", "authentication_error"],
  ["402", 402, "PaymentRequiredError", "billing_error"],
  ["403", 403, "PermissionDeniedError", "permission_error"],
  ["404", 404, "NotFoundError", "not_found_error"],
  ["408", 408, "RequestTimeoutError", "timeout_error"],
  ["409", 409, "ConflictError", "conflict_error"],
  ["413", 413, "ContentTooLargeError", "request_too_large"],
  ["422", 422, "UnprocessableEntityError", "invalid_request_error"],
  ["429", 429, "RateLimitError", "rate_limit_error"],
  ["500", 500, "InternalServerError", "api_error"],
  ["502", 502, "InternalServerError", "api_error"],
  ["503", 503, "InternalServerError", "api_error"],
  ["504", 504, "InternalServerError", "timeout_error"],
  ["529", 529, "InternalServerError", "overloaded_error"],
  ["529", 529, "OverloadedError", "overloaded_error"],
  ["credit", 400, "BadRequestError", "invalid_request_error", /credit balance is too low/],
  ["spend_own", 400, "BadRequestError", "invalid_request_error", /specified API usage limits.*regain access on \d{4}-\d\d-01 at 00:00 UTC/],
  ["spend_workspace", 400, "BadRequestError", "invalid_request_error", /specified workspace API usage limits/],
  ["spend_tier", 429, "RateLimitError", "rate_limit_error", /monthly API usage threshold/],
  ["bare429", 429, "RateLimitError", "rate_limit_error", /Error/],
  ["concurrency429", 429, "RateLimitError", "rate_limit_error", /concurrent connections/],
  ["acceleration429", 429, "RateLimitError", "rate_limit_error", /maximum usage increase rate/],
  ["longcontext429", 429, "RateLimitError", "rate_limit_error", /Extra usage is required/],
  ["html", 502, "InternalServerError", null],
];

for (const [kind, status, name, type, message] of statuses)
  await check(`fault ${kind} is a ${name}`, async () => {
    await sim("fault", { clear: true, kind });
    const e = await raised(() => client.messages.create(hello));
    assert.ok(e instanceof Anthropic[name] || e.constructor.name === name, e.constructor.name);
    assert.equal(e.status, status);
    assert.equal(e.type ?? null, type);
    if (message) assert.match(e.message, message);
    assert.match(e.requestID, /^req_/);
  });

await check("the tier's spend limit carries its code and no retry-after", async () => {
  await sim("fault", { clear: true, kind: "spend_tier" });
  const e = await raised(() => client.messages.create(hello));
  assert.equal(e.error.error.details.error_code, "enforced_spend_limit_reached");
  assert.equal(e.headers.get("retry-after"), null);
});

for (const kind of ["reset", "reset_mid", "truncated_json"])
  await check(`fault ${kind} leaves no message`, async () => {
    await sim("fault", { clear: true, kind });
    const e = await raised(() => client.messages.create(hello));
    if (kind === "reset") assert.ok(e instanceof Anthropic.APIConnectionError, e.constructor.name);
  });

for (const kind of ["stall", "stall_mid"])
  await check(`fault ${kind} ends with the client's patience`, async () => {
    await sim("fault", { clear: true, kind });
    const began = performance.now();
    const e = await raised(() => client.messages.create(hello, { timeout: 300, signal: AbortSignal.timeout(600) }));
    assert.ok(performance.now() - began > 250);
    if (kind === "stall") assert.ok(e instanceof Anthropic.APIConnectionTimeoutError, e.constructor.name);
    await sim("fault", { clear: true });
    for (let i = 0; i < 50 && (await sim("stats")).in_flight > 0; i++)
      await new Promise((done) => setTimeout(done, 20));
    assert.equal((await sim("stats")).in_flight, 0);
  });

for (const kind of ["cut_stream", "stream_error", "reset_mid"])
  await check(`fault ${kind} breaks a stream`, async () => {
    await sim("fault", { clear: true, kind });
    const e = await raised(() => client.messages.stream(hello).finalMessage());
    if (kind === "stream_error") assert.match(e.message, /[Oo]verloaded/);
  });

for (const [kind, reason] of [["refusal", "refusal"], ["pause_turn", "pause_turn"], ["empty_turn", "end_turn"]])
  await check(`fault ${kind} is a message with stop_reason ${reason}`, async () => {
    await sim("fault", { clear: true, kind });
    const m = await client.messages.create(hello);
    assert.equal(m.stop_reason, reason);
    if (kind === "refusal") assert.equal(m.stop_details.type, "refusal");
    if (kind === "empty_turn") assert.deepEqual(m.content, []);
    const s = await client.messages.stream(hello).finalMessage();
    assert.equal(s.stop_reason, reason);
  });

await check("the SDK tries again what x-should-retry and retry-after allow", async () => {
  await sim("fault", { clear: true, kind: "429", first: 2, retry_after: 0 });
  await sim("reset", {});
  const patient = new Anthropic({ apiKey: "k", baseURL: base, maxRetries: 2 });
  assert.equal((await patient.messages.create(hello)).type, "message");
  assert.equal((await sim("stats")).requests, 3);
});

await check("a fault with match meets its job alone", async () => {
  await sim("fault", { clear: true, kind: "500", match: "poison" });
  assert.equal((await client.messages.create(hello)).type, "message");
  const e = await raised(() => client.messages.create({ ...hello, messages: [{ role: "user", content: "poison" }] }));
  assert.equal(e.status, 500);
});

// ---- limits and money ----

await check("limits show in headers and refuse with retry-after", async () => {
  await sim("fault", { clear: true });
  await sim("limits", { rpm: 2, itpm: 100000, otpm: 50000 });
  const { response } = await client.messages.create(hello).withResponse();
  assert.equal(response.headers.get("anthropic-ratelimit-requests-limit"), "2");
  assert.equal(response.headers.get("anthropic-ratelimit-requests-remaining"), "1");
  assert.match(response.headers.get("anthropic-ratelimit-tokens-reset"), /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  assert.equal(Number(response.headers.get("anthropic-ratelimit-input-tokens-remaining")) % 1000, 0);
  await client.messages.create(hello);
  const e = await raised(() => client.messages.create(hello));
  assert.ok(e instanceof Anthropic.RateLimitError);
  assert.match(e.message, /rate limit of 2 requests per minute \(org: .*, model: claude-opus-5-5\)/);
  assert.ok(Number(e.headers.get("retry-after")) >= 1 && Number(e.headers.get("retry-after")) <= 30);
  await sim("limits", { rpm: 0, itpm: 0, otpm: 0 });
});

await check("without credit messages and count_tokens are refused, models are not", async () => {
  await sim("credit", { set: 0 });
  const { max_tokens, ...rest } = hello;
  for (const call of [() => client.messages.create(hello), () => client.messages.countTokens(rest)]) {
    const e = await raised(call);
    assert.ok(e instanceof Anthropic.BadRequestError);
    assert.equal(e.error.error.message,
      "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.");
  }
  assert.ok((await client.models.list()).data.length > 0);
  await sim("credit", { add: 5 });
  assert.equal((await client.messages.create(hello)).type, "message");
  await sim("credit", { infinite: true });
});

await check("stats and log agree with what was asked", async () => {
  await sim("reset", {});
  const m = await client.messages.create(hello, { headers: { "x-job-id": "legal/contract-7" } });
  const stats = await sim("stats?jobs=1");
  assert.deepEqual(stats.by_job, { "legal/contract-7": { requests: 1, answered: 1 } });
  assert.equal(stats.served, 1);
  assert.equal(stats.by_status["200"], 1);
  assert.equal(stats.by_model[model], 1);
  assert.equal(stats.tokens.output, m.usage.output_tokens);
  assert.equal(Number(stats.usd).toFixed(9), ((m.usage.input_tokens * 4 + m.usage.output_tokens * 20) / 1e6).toFixed(9));
  const log = (await (await fetch(`${base}/sim/log`)).text()).trim().split("\n").map((l) => JSON.parse(l));
  assert.equal(log.length, 1);
  assert.equal(log[0].job, "legal/contract-7");
  assert.equal(log[0].answered, true);
});

console.log(`${passed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
