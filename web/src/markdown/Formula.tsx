import { memo, useEffect, useRef, useState } from "react";

/** LaTeX. Its source is shown until the typesetter is there (it is loaded with the first formula), and stays when the
 *  formula is unfinished or wrong. */
export const Formula = memo(function Formula(props: { text: string; source: string; display: boolean }) {
  const { text, source, display } = props;
  const target = useRef<HTMLSpanElement>(null);
  const [ready, setReady] = useState(false);
  useEffect(() => {
    let gone = false;
    if (text === "" || text.length > FORMULA_MAX) return;
    import("./katex").then(
      ({ typeset }) => {
        if (gone || !target.current) return;
        setReady(typeset(text, target.current, display));
      },
      () => {},
    );
    return () => {
      gone = true;
    };
  }, [text, display]);
  return (
    <span className={display ? "formula formula-display" : "formula"} dir="ltr">
      <span ref={target} hidden={!ready} />
      {!ready && <code className="formula-source">{source.trim()}</code>}
    </span>
  );
});

/** Longer ones are no formulas, and the typesetter would take long over them. */
const FORMULA_MAX = 4_000;
