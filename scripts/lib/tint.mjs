// Usage: node tint.mjs WEBGPU FOLDER [COLUMN]
//
// Gives every .wgsl of FOLDER to Tint through Dawn's null backend, as a module and as a pipeline, and prints what it
// refuses. WEBGPU is the folder that holds node_modules/webgpu. A text may end with `// constants {...}`, the pipeline's
// overrides. COLUMN: a file for the number of variants that passed, by kernel. Exit code 1 when one was refused, 2 when
// there was nothing to check.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

const [home, folder, column] = process.argv.slice(2);
const { create } = createRequire(join(home, 'package.json'))('webgpu');
// Kept for as long as the process lives: a collected instance takes its devices with it.
const gpu = create(['backend=null']);
const adapter = await gpu.requestAdapter();
const subgroups = adapter.features.has('subgroups');
// Only WebGPU's default limits: the floor.
const device = await adapter.requestDevice({ requiredFeatures: subgroups ? ['subgroups'] : [] });

const texts = readdirSync(folder).filter((name) => name.endsWith('.wgsl')).sort();
const passed = new Map();
let refused = 0;
for (const name of texts) {
    const text = readFileSync(join(folder, name), 'utf8');
    const constants = JSON.parse(/^\/\/ constants (\{.*\})$/m.exec(text)?.[1] ?? '{}');
    // Browsers want the directive, naga refuses it. On the first line, so that line numbers stay.
    const code = (/\bsubgroup[A-Z]/.test(text) ? 'enable subgroups; ' : '') + text;
    const wrong = await check(code, constants);
    const kernel = name.replace(/(-.*)?\.wgsl$/, '');
    if (wrong) {
        refused += 1;
        if (refused <= 10) console.log(`${name}: ${wrong}`);
    } else {
        passed.set(kernel, (passed.get(kernel) ?? 0) + 1);
    }
}
if (column) writeFileSync(column, [...passed].map(([kernel, n]) => `${kernel}\t${n}\n`).join(''));
console.log(`Tint: ${texts.length - refused} of ${texts.length} variants pass`);
// Dawn keeps the process alive otherwise.
process.exit(texts.length === 0 ? 2 : refused ? 1 : 0);

/** What is wrong with a shader, or nothing. */
async function check(code, constants) {
    device.pushErrorScope('validation');
    const module = device.createShaderModule({ code });
    const info = await module.getCompilationInfo();
    const errors = info.messages.filter((m) => m.type === 'error').map((m) => `${m.lineNum}:${m.linePos} ${m.message}`);
    if (errors.length === 0) {
        device.createComputePipeline({ layout: 'auto', compute: { module, entryPoint: 'main', constants } });
    }
    const error = await device.popErrorScope();
    return errors[0] ?? error?.message;
}
