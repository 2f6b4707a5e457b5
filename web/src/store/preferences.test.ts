import { expect, test } from "vitest";
import { adoptSetup, loadSetup, saveSetup } from "./preferences";

test("the next conversation begins with the same model, and with no options of the last one", () => {
  saveSetup(null, { model: "small", options: { temperature: 0.3 } });
  adoptSetup("cnv_1");
  expect(loadSetup("cnv_1")).toEqual({ model: "small", options: { temperature: 0.3 } });
  expect(loadSetup(null)).toEqual({ model: "small" });
});
