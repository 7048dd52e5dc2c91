import type { Checkpoint } from "./source.js";
export interface HubOptions { readonly revision?: string }
export declare function openFromHub(repo: string, options: HubOptions): Promise<Checkpoint>;
