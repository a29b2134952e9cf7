// Usage: node tint.mjs WEBGPU FOLDER [COLUMN]
//
// Gives every .wgsl of FOLDER to Tint through Dawn's null backend, as a module and as a pipeline, and prints what it
// refuses. WEBGPU is the folder that holds node_modules/webgpu. A text may end with `// constants {...}`, the pipeline's
// overrides. COLUMN: a file for the number of variants that passed, by kernel. Exit code 1 when one was refused, 2 when
// there was nothing to check.
//
// The texts are checked by a child, `node tint.mjs WEBGPU FOLDER --from NAME`, which answers a line of JSON for each. Dawn's
// module for Node has died of a signal once in thousands of correct texts, and has waited for itself for good, in what it does
// beside them; so a child that dies, or is killed because it answers nothing, is followed by another from the text that it owed,
// and a text is at fault when two die on it.
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const [home, folder, option, first] = process.argv.slice(2);
// More than this is no accident.
const mostDeaths = 8;
// Milliseconds that a child may take over one text; most take a few, the longest some seconds.
const patience = 60_000;
const texts = readdirSync(folder).filter((name) => name.endsWith('.wgsl')).sort();
// Dawn keeps the process alive otherwise.
process.exit(option === '--from' ? await checkAll(texts.slice(texts.indexOf(first))) : await report(option));

/** Has all texts checked, prints and counts the verdicts; gives the exit code. */
async function report(column) {
    const passed = new Map();
    let refused = 0;
    let at = 0;
    let diedAt = -1;
    let deaths = 0;
    while (at < texts.length) {
        const end = await child(texts[at], ({ name, wrong }) => {
            if (name !== texts[at]) throw new Error(`a verdict on ${name} where ${texts[at]} is due`);
            judge(wrong);
        });
        if (at === texts.length) break;
        console.log(`${texts[at]}: Tint's process ended with ${end}`);
        deaths += 1;
        if (deaths > mostDeaths) {
            console.log('Tint does not run here');
            return 1;
        }
        if (diedAt === at) judge('two processes in a row did not live through it');
        diedAt = at;
    }
    if (column) writeFileSync(column, [...passed].map(([kernel, n]) => `${kernel}\t${n}\n`).join(''));
    console.log(`Tint: ${texts.length - refused} of ${texts.length} variants pass`);
    return texts.length === 0 ? 2 : refused ? 1 : 0;

    function judge(wrong) {
        const name = texts[at++];
        const kernel = name.replace(/(-.*)?\.wgsl$/, '');
        if (!wrong) {
            passed.set(kernel, (passed.get(kernel) ?? 0) + 1);
            return;
        }
        refused += 1;
        if (refused <= 10) console.log(`${name}: ${wrong}`);
    }
}

/** Starts a child at a text and hands on its verdicts; gives its exit code or the signal that it died of. */
async function child(from, verdict) {
    const self = fileURLToPath(import.meta.url);
    const running = spawn(process.execPath, [self, home, folder, '--from', from], { stdio: ['ignore', 'pipe', 'inherit'] });
    const ended = new Promise((resolve) => running.on('close', (code, signal) => resolve(signal ?? `code ${code}`)));
    let watch;
    const wait = () => {
        clearTimeout(watch);
        watch = setTimeout(() => running.kill('SIGKILL'), patience);
    };
    wait();
    for await (const line of createInterface({ input: running.stdout })) {
        wait();
        // The last line of a child that died may be cut.
        if (line.endsWith('}')) verdict(JSON.parse(line));
    }
    clearTimeout(watch);
    return ended;
}

/** The child's part: prints a verdict on each text. */
async function checkAll(names) {
    const { create } = createRequire(join(home, 'package.json'))('webgpu');
    // Kept for as long as the process lives: a collected instance takes its devices with it.
    const gpu = create(['backend=null']);
    const adapter = await gpu.requestAdapter();
    const subgroups = adapter.features.has('subgroups');
    // Only WebGPU's default limits: the floor.
    const device = await adapter.requestDevice({ requiredFeatures: subgroups ? ['subgroups'] : [] });
    for (const name of names) {
        const text = readFileSync(join(folder, name), 'utf8');
        const constants = JSON.parse(/^\/\/ constants (\{.*\})$/m.exec(text)?.[1] ?? '{}');
        // Browsers want the directive, naga refuses it. On the first line, so that line numbers stay.
        const code = (/\bsubgroup[A-Z]/.test(text) ? 'enable subgroups; ' : '') + text;
        const wrong = await check(device, code, constants);
        await new Promise((done) => process.stdout.write(`${JSON.stringify({ name, wrong })}\n`, done));
    }
    return 0;
}

/** What is wrong with a shader, or nothing. */
async function check(device, code, constants) {
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
