import { expect, test } from "vitest";
import { ApiError } from "../api";
import { comeBack, providerAddress, sentBackWith } from "./provider";

test("the page says only sentences of its own", () => {
  expect(sentBackWith("?login=denied")).toBe("signInDenied");
  expect(sentBackWith("?login=throttled")).toBe("signInThrottled");
  for (const other of ["", "?login", "?login=done", "?login=constructor", "?login=<b>", "?other=denied"])
    expect(sentBackWith(other)).toBe(null);
});

test("one comes back to where one was", () => {
  expect(providerAddress("#/c/cnv_1")).toBe("/api/login/oidc?back=%2Fc%2Fcnv_1");
  expect(providerAddress("")).toBe("/api/login/oidc?back=%2F");
  expect(providerAddress("#a&b=c#d")).toBe("/api/login/oidc?back=a%26b%3Dc%23d");
});

test("what is remembered belongs to whoever came back", async () => {
  const back = async (search: string, me: () => Promise<{ user: string; name?: string }>) => {
    const done: string[] = [];
    await comeBack(search, { me, adopt: user => done.push(user), forget: () => done.push("forgotten") });
    return done;
  };
  const mai = () => Promise.resolve({ user: "usr_mai", name: "mai" });
  expect(await back("?login=done", mai)).toEqual(["usr_mai"]);
  expect(await back("?login=denied", mai)).toEqual([]);
  expect(await back("", () => Promise.reject(new Error("never asked")))).toEqual([]);
  expect(await back("?login=done", () => Promise.resolve({ user: "usr_nobody" }))).toEqual([]);
  // An address that anybody can write takes nothing from who isn't signed in.
  const failing = (status: number) => () => Promise.reject(new ApiError("x", "x", status));
  expect(await back("?login=done", failing(401))).toEqual([]);
  expect(await back("?login=done", failing(503))).toEqual(["forgotten"]);
});
