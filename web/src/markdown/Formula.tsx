import { memo, useEffect, useRef, useState } from "react";
import { useI18n } from "../i18n/i18n";

/** LaTeX. Its source is shown until the typesetter is there (it is loaded with the first formula), and stays when the
 *  formula is unfinished or wrong. */
export const Formula = memo(function Formula(props: { text: string; source: string; display: boolean }) {
  const { text, source, display } = props;
  const { t } = useI18n();
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
  const written = (
    <>
      <span ref={target} hidden={!ready} />
      {!ready && <code className="formula-source">{source.trim()}</code>}
    </>
  );
  if (!display) {
    return (
      <span className="formula" dir="ltr">
        {written}
      </span>
    );
  }
  return (
    // biome-ignore lint/a11y/useSemanticElements: a fieldset holds fields; what is wider than the page is scrolled by keys, too
    <span className="formula formula-display" role="group" tabIndex={0} aria-label={t("formula")} dir="ltr">
      {written}
    </span>
  );
});

/** Longer ones are no formulas, and the typesetter would take long over them. */
const FORMULA_MAX = 4_000;
