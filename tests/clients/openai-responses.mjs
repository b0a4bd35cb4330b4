// Stored responses with OpenAI's SDK for JavaScript: `node openai-responses.mjs BASE_URL HANGING_PROMPT` prints what each call gave, as JSON.
import OpenAI from "openai";

const [baseURL, hanging] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "any", maxRetries: 0 });
const asked = { model: "claude", background: true };

async function ended(id) {
  for (;;) {
    const response = await client.responses.retrieve(id);
    if (response.status !== "queued" && response.status !== "in_progress") return response;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function failure(call) {
  try {
    await call();
  } catch (error) {
    return { name: error.constructor.name, status: error.status, message: error.message };
  }
  return null;
}

const found = {};

const queued = await client.responses.create({ ...asked, input: "hello" });
const final = await ended(queued.id);
found.polled = { first: queued.status, last: final.status, text: final.output_text };

const seen = [];
let id;
for await (const event of await client.responses.create({ ...asked, input: "hello again", stream: true })) {
  id ??= event.response.id;
  seen.push(event.sequence_number);
  if (event.type === "response.output_item.added") break;
}
for await (const event of await client.responses.retrieve(id, { stream: true, starting_after: seen.at(-1) })) seen.push(event.sequence_number);
found.resumed = seen;

const helper = client.responses.stream({ response_id: id, starting_after: 2 });
found.helper = (await helper.finalResponse()).output_text;

const running = await client.responses.create({ ...asked, input: hanging });
found.cancelled = (await client.responses.cancel(running.id)).status;
found.cancelledAgain = (await client.responses.cancel(running.id)).status;

found.items = [];
for await (const item of client.responses.inputItems.list(queued.id)) found.items.push({ type: item.type, text: item.content[0].text });

const continued = await client.responses.create({ model: "claude", input: "go on", previous_response_id: queued.id });
found.continued = continued.status;

await client.responses.delete(queued.id);
found.deleted = await failure(() => client.responses.retrieve(queued.id));
found.foreground = await failure(() => client.responses.cancel(continued.id));
console.log(JSON.stringify(found));
