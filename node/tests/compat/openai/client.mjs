// The unmodified OpenAI client against the node's /v1 routes; a model named `tiny` is there.
import assert from 'node:assert'
import OpenAI from 'openai'

const { url, width } = JSON.parse(process.argv[2])
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: 'any', maxRetries: 0 })
const messages = [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: 'Hi' }]
const base = { model: 'tiny', messages, max_tokens: 10, seed: 5 }
const ok = what => console.log(`ok ${what}`)

const models = await client.models.list()
assert.deepEqual(models.data.map(model => model.id), ['tiny'])
assert.equal((await client.models.retrieve('tiny')).object, 'model')
ok('models')

const whole = await client.chat.completions.create({ ...base, logprobs: true, top_logprobs: 3 })
const choice = whole.choices[0]
assert.equal(choice.message.role, 'assistant')
assert.equal(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens)
assert.equal(choice.logprobs.content[0].top_logprobs.length, 3)
assert.equal(choice.receipt.format, 'weft-receipt-1')
ok('chat')

const again = await client.chat.completions.create(base)
assert.equal(again.choices[0].message.content, choice.message.content)
ok('the same seed, the same answer')

let text = ''
let usage
for await (const part of await client.chat.completions.create({ ...base, stream: true, stream_options: { include_usage: true } })) {
  text += part.choices[0]?.delta?.content ?? ''
  usage = part.usage ?? usage
}
assert.equal(text, choice.message.content)
assert.deepEqual(usage, whole.usage)
ok('stream')

const runner = client.chat.completions.stream(base)
assert.equal((await runner.finalChatCompletion()).choices[0].message.content, choice.message.content)
ok('the stream helper')

const completion = await client.completions.create({ model: 'tiny', prompt: 'Once', max_tokens: 5, temperature: 0, logprobs: 2 })
assert.equal(completion.usage.completion_tokens, 5)
assert.equal(completion.choices[0].logprobs.tokens.length, 5)
ok('completion')

// The client asks for base64 and reads it back unless told otherwise.
const vectors = await client.embeddings.create({ model: 'tiny', input: ['a', 'b'] })
assert.equal(vectors.data[1].embedding.length, width)
const floats = await client.embeddings.create({ model: 'tiny', input: 'b', encoding_format: 'float' })
assert.deepEqual(Array.from(floats.data[0].embedding).map(Math.fround), Array.from(vectors.data[1].embedding).map(Math.fround))
ok('embeddings')

const refused = await client.chat.completions.create({ ...base, model: 'nobody' }).then(() => null, error => error)
assert.equal(refused.status, 404)
assert.equal(refused.code, 'model_not_found')
const invalid = await client.chat.completions.create({ ...base, n: 2 }).then(() => null, error => error)
assert.ok(invalid instanceof OpenAI.BadRequestError)
assert.equal(invalid.param, 'n')
ok('refusals')
