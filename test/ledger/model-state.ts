import {
  MINUTE,
  DAY,
  isWrite,
  type Ask,
  type Attempt,
  type Call,
  type Cost,
  type FollowUp,
  type Letter,
  type Review,
  type Run,
  type Said,
} from './model-words';

/** The state of one modelled ledger, what an operator does to it, and the steps that every change is made of. */
export class ModelState {
  now: number;
  last: number;
  mode: 'normal' | 'killed' = 'normal';
  epoch = 0;
  controlVersion = 0;
  policyVersion = 1;
  inflight = 0;
  rewound = 0;
  acknowledged = 0;
  readonly days = new Map<number, number>();
  readonly runs = new Map<string, Run>();
  readonly refusals = new Map<string, number>();
  /** In the order of their numbers. */
  readonly reviews: Review[] = [];
  readonly letters: Letter[] = [];
  readonly followUps: FollowUp[] = [];
  protected readonly acceptedUnder = new Map<string, number>();
  readonly calls = new Map<string, Call>();
  protected readonly attempts = new Map<string, Attempt>();
  protected readonly floods = new Map<string, number>();

  constructor(
    start: number,
    public limits: { callsInFlight: number; toolCallsPerDay: number; perRunSteps: number },
  ) {
    this.now = this.last = start;
  }

  get time(): number {
    return Math.max(this.now, this.last);
  }
  get today(): number {
    return Math.floor(this.time / DAY);
  }

  protected review(key: string, call: Call, kind: Review['kind']): void {
    const [run = '', path = ''] = key.split('|');
    call.review = { run, path, token: call.token, class: call.class, kind, resolution: null };
    this.reviews.push(call.review);
  }

  /** Ends a claimed call that nobody will bring an outcome. */
  protected lose(key: string, call: Call, rule: string): void {
    const write = isWrite(call.class);
    Object.assign(call, { state: write ? 'unknown' : 'failed', lost: !write, rule });
    if (write) Object.assign(this.attempts.get(call.token) ?? {}, { true: true });
    if (write) this.review(key, call, 'outcome_unknown');
    this.inflight -= 1;
    this.last = this.time;
  }

  start(run: string): boolean {
    if (this.rewound > 0 || this.mode === 'killed') {
      const kind = this.rewound > 0 ? 'frozen' : 'killed';
      this.count(this.rewound > 0 ? 'ledger_rewound' : 'tenant_killed', 'run.accept', kind);
      return false;
    }
    this.acceptedUnder.set(run, this.epoch);
    this.runs.set(run, {
      closed: false,
      undone: false,
      workflow: `${run}/1`,
      acceptedAt: this.time,
      steps: 0,
      toolCalls: 0,
      microUsd: 0,
      refusals: 0,
    });
    this.last = this.time;
    return true;
  }

  kill(): void {
    if (this.mode === 'killed') return;
    this.mode = 'killed';
    this.epoch += 1;
    this.act();
  }

  release(): void {
    if (this.mode === 'normal') return;
    this.mode = 'normal';
    this.act();
  }

  /** What was lost is put back, and the ledger opened again. */
  recover(): void {
    this.acknowledged = Math.max(this.acknowledged, this.rewound);
    this.rewound = 0;
    this.act();
  }

  publish(version: number): void {
    this.policyVersion = version;
    this.act();
  }

  setLimits(limits: ModelState['limits']): void {
    this.limits = limits;
    this.act();
  }

  protected act(): void {
    this.controlVersion += 1;
    this.last = this.time;
  }

  protected refuse(
    ask: Ask,
    rewound: boolean,
    why: Omit<Said, 'answer'> & { rule: string; kind: string },
  ): Said {
    const run = this.runs.get(ask.run);
    if (run) run.refusals += 1;
    if (rewound && this.rewound === 0) this.controlVersion += 1;
    if (rewound) this.rewound = Math.max(this.rewound, ask.ahead);
    this.count(why.rule, ask.action, why.kind);
    return { answer: 'refused', ...why };
  }

  protected count(rule: string, action: string, kind: string): void {
    const key = [rule, this.policyVersion, action, kind].join('/');
    this.refusals.set(key, (this.refusals.get(key) ?? 0) + 1);
    this.floods.set(key, Math.floor(this.time / MINUTE));
    this.last = this.time;
  }

  protected charge(run: string, day: number, cost: Cost): void {
    this.days.set(day, (this.days.get(day) ?? 0) + cost.toolCalls);
    const row = this.runOf(run);
    row.toolCalls += cost.toolCalls;
    row.microUsd += cost.microUsd;
  }

  protected runOf(run: string): Run {
    const row = this.runs.get(run);
    if (!row) throw new Error(`the model charges a run that it does not know: ${run}`);
    return row;
  }
}
