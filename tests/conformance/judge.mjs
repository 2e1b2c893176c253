// Judges what the suite wrote: every single check counts, scored or not, and a
// warning is a failure. Arguments: the folder, then `fixture/NAME` or
// `daemon/NAME` for every run below it. The daemon is judged by scenarios.mjs.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { bare, fixture } from './scenarios.mjs';

const [place, ...runs] = process.argv.slice(2);
const problems = [];
const seen = new Set();
let total = 0;

const bad = (check) => check.status === 'FAILURE' || check.status === 'WARNING';

// The scenarios of a run, each with its checks.
function read(run) {
    const folder = path.join(place, run);
    const name = /^server-(.+)-\d{4}-\d\d-\d\dT[\dZ-]+$/;
    return readdirSync(folder).map((entry) => {
        const checks = JSON.parse(readFileSync(path.join(folder, entry, 'checks.json')));
        return { scenario: name.exec(entry)[1], checks };
    });
}

// Takes out what a scenario without its fixture cannot pass.
function withoutFixture(run, { scenario, checks }) {
    seen.add(scenario);
    if (bare.includes(scenario) === (scenario in fixture)) {
        problems.push(`${run}: ${scenario} has to stand in one table of scenarios.mjs`);
    }
    const stale = (what) => problems.push(`${run}: ${what} passes without its fixture`);
    if (scenario in fixture) {
        const own = checks.filter((check) => check.id !== 'wire-schema-valid');
        const passes = own.some((check) => check.status === 'SUCCESS') && !own.some(bad);
        if (passes) stale(scenario);
        // What it says has to fit the schema all the same.
        return checks.filter((check) => check.id === 'wire-schema-valid');
    }
    return checks.filter((check) => {
        const excused = `${scenario}:${check.id}` in fixture;
        if (excused && !bad(check)) stale(`${scenario}:${check.id}`);
        return !excused;
    });
}

for (const run of runs) {
    const scenarios = read(run);
    const checks = scenarios.flatMap((ran) => {
        const judged = run.startsWith('daemon/') ? withoutFixture(run, ran) : ran.checks;
        return judged.map((check) => ({ ...check, scenario: ran.scenario }));
    });
    const failed = checks.filter(bad);
    for (const { scenario, id, errorMessage } of failed) {
        problems.push(`${run}: ${scenario}:${id}: ${errorMessage ?? 'failed'}`);
    }
    const count = (status) => checks.filter((check) => check.status === status).length;
    const passed = count('SUCCESS');
    if (passed === 0) problems.push(`${run}: nothing was checked`);
    total += passed;
    const told = `${passed} passed, ${failed.length} failed, ${count('SKIPPED')} skipped`;
    console.log(`${failed.length ? 'FAILED ' : 'ok     '} ${run}: ${told}`);
}
for (const scenario of bare.filter((name) => !seen.has(name))) {
    problems.push(`daemon: ${scenario} was not run`);
}
for (const problem of problems) console.log(`  ${problem}`);
if (problems.length) process.exit(1);
console.log(`all ${total} checks passed`);
