"""How people ask for each edit, in English and Chinese: phrasings for training, others held out, politeness around.

Slots: {o} the shape meant, {c} a colour, {ac} a colour with its article, {k} a kind (English: with article), {n} a new
shape (English: with article), {at} and {to} a place, {b} a background, {r} a shape of picture 2, {two} that picture.

A held-out phrasing is a sentence that no training instruction has; every word of it occurs in some phrasing of the
same language that is trained on, as no model can know a word that it never met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

from tools.tiny_model.words import Language

Task = Literal["recolour", "remove", "add", "replace", "move", "grow", "shrink", "background"]
ReferenceTask = Literal["recolour like", "add from", "replace from", "background from"]
AnyTask = Task | ReferenceTask
TASKS: tuple[Task, ...] = get_args(Task)
REFERENCE_TASKS: tuple[ReferenceTask, ...] = get_args(ReferenceTask)


@dataclass(frozen=True, slots=True)
class Phrasings:
    """Ways to ask for one task in one language. Orders take "please" and "can you"; wishes are whole sentences."""

    orders: tuple[str, ...]
    wishes: tuple[str, ...]
    held_out_orders: tuple[str, ...]
    held_out_wishes: tuple[str, ...]

    def __post_init__(self) -> None:
        trained = {*self.orders, *self.wishes}
        assert not trained & {*self.held_out_orders, *self.held_out_wishes}


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines() if line.strip())


def _phrasings(orders: str, wishes: str, held_out_orders: str, held_out_wishes: str) -> Phrasings:
    return Phrasings(_lines(orders), _lines(wishes), _lines(held_out_orders), _lines(held_out_wishes))


ENGLISH: dict[AnyTask, Phrasings] = {
    "recolour": _phrasings(
        """
        make {o} {c}
        turn {o} {c}
        paint {o} {c}
        color {o} {c}
        colour {o} {c}
        dye {o} {c}
        tint {o} {c}
        change {o} to {c}
        switch {o} to {c}
        convert {o} to {c}
        recolor {o} to {c}
        recolour {o} in {c}
        repaint {o} in {c}
        draw {o} in {c}
        fill {o} with {c}
        let {o} be {c}
        give {o} {ac} color
        give {o} the color {c}
        set the color of {o} to {c}
        change the color of {o} to {c}
        change the colour of {o} to {c}
        change {o} into {ac} one
        """,
        """
        {o} should be {c}
        {o} should become {c}
        {o} needs to be {c}
        I want {o} {c}
        I want {o} to be {c}
        the color of {o} should be {c}
        """,
        """
        make the color of {o} {c}
        paint {o} in {c}
        turn the color of {o} to {c}
        let {o} become {c}
        """,
        """
        I want the color of {o} to be {c}
        {o} needs to become {c}
        """,
    ),
    "remove": _phrasings(
        """
        remove {o}
        delete {o}
        erase {o}
        eliminate {o}
        discard {o}
        drop {o}
        hide {o}
        clear {o}
        wipe out {o}
        cut out {o}
        take away {o}
        take {o} away
        throw {o} away
        get rid of {o}
        make {o} disappear
        make {o} vanish
        let {o} disappear
        take {o} out of the picture
        remove {o} from the picture
        remove {o} from the image
        delete {o} from the image
        """,
        """
        {o} should disappear
        {o} should be gone
        {o} should not be there
        {o} must go away
        I want {o} gone
        I want {o} removed
        I do not want {o}
        """,
        """
        take {o} out of the image
        erase {o} from the picture
        let {o} vanish
        wipe {o} out
        """,
        """
        I want {o} to disappear
        {o} should be removed
        """,
    ),
    "add": _phrasings(
        """
        add {n} {at}
        put {n} {at}
        draw {n} {at}
        paint {n} {at}
        place {n} {at}
        insert {n} {at}
        create {n} {at}
        include {n} {at}
        set {n} {at}
        make {n} {at}
        position {n} {at}
        generate {n} {at}
        add {n} {to}
        let {n} appear {at}
        add {n} to the picture {at}
        put another shape {at}: {n}
        """,
        """
        there should be {n} {at}
        {at} there should be {n}
        {at}, add {n}
        {at}, draw {n}
        I want {n} {at}
        I need {n} {at}
        I would like {n} {at}
        """,
        """
        make {n} appear {at}
        let there be {n} {at}
        insert {n} to the picture {at}
        """,
        """
        {at}, place {n}
        I want there to be {n} {at}
        {n} should appear {at}
        """,
    ),
    "replace": _phrasings(
        """
        turn {o} into {k}
        change {o} into {k}
        change {o} to {k}
        transform {o} into {k}
        convert {o} to {k}
        convert {o} into {k}
        morph {o} into {k}
        reshape {o} into {k}
        make {o} {k}
        make {o} into {k}
        replace {o} with {k}
        replace {o} by {k}
        swap {o} for {k}
        swap {o} with {k}
        exchange {o} for {k}
        substitute {k} for {o}
        draw {k} instead of {o}
        put {k} in place of {o}
        change the shape of {o} to {k}
        """,
        """
        {o} should be {k}
        {o} should become {k}
        {o} needs to be {k}
        I want {o} to be {k}
        I want {k} instead of {o}
        instead of {o}, draw {k}
        """,
        """
        transform {o} to {k}
        put {k} instead of {o}
        draw {k} in place of {o}
        let {o} become {k}
        """,
        """
        I want {o} to become {k}
        there should be {k} instead of {o}
        """,
    ),
    "move": _phrasings(
        """
        move {o} {to}
        shift {o} {to}
        drag {o} {to}
        slide {o} {to}
        push {o} {to}
        pull {o} {to}
        bring {o} {to}
        carry {o} {to}
        send {o} {to}
        take {o} {to}
        transfer {o} {to}
        relocate {o} {to}
        reposition {o} {to}
        change the position of {o} {to}
        put {o} {at}
        place {o} {at}
        position {o} {at}
        move {o} so that it is {at}
        let {o} go {to}
        """,
        """
        {o} should be {at}
        {o} should go {to}
        {o} should move {to}
        {o} belongs {at}
        I want {o} {at}
        I want {o} to be {at}
        """,
        """
        set the position of {o} {to}
        let {o} move {to}
        make {o} go {to}
        """,
        """
        {o} needs to be {at}
        I want {o} to go {to}
        I would like {o} to be {at}
        """,
    ),
    "grow": _phrasings(
        """
        make {o} bigger
        make {o} larger
        make {o} grow
        enlarge {o}
        grow {o}
        expand {o}
        magnify {o}
        upscale {o}
        blow up {o}
        scale up {o}
        scale {o} up
        increase the size of {o}
        increase {o}
        resize {o} to be bigger
        draw {o} bigger
        """,
        """
        {o} should be bigger
        {o} should be larger
        {o} should grow
        {o} is too small
        I want {o} bigger
        I want {o} to be larger
        """,
        """
        let {o} grow
        increase {o} in size
        resize {o} to be larger
        """,
        """
        {o} needs to be larger
        I want {o} to grow
        """,
    ),
    "shrink": _phrasings(
        """
        make {o} smaller
        make {o} tinier
        make {o} shrink
        shrink {o}
        reduce {o}
        downsize {o}
        downscale {o}
        scale down {o}
        scale {o} down
        reduce the size of {o}
        decrease the size of {o}
        reduce {o} in size
        resize {o} to be smaller
        draw {o} smaller
        """,
        """
        {o} should be smaller
        {o} should be tinier
        {o} should shrink
        {o} is too big
        {o} is too large
        I want {o} smaller
        I want {o} to be smaller
        """,
        """
        let {o} shrink
        decrease {o} in size
        resize {o} to be tinier
        """,
        """
        {o} needs to be smaller
        I want {o} to shrink
        """,
    ),
    "background": _phrasings(
        """
        change the background to {b}
        make the background {b}
        set the background to {b}
        switch the background to {b}
        convert the background to {b}
        turn the background into {b}
        replace the background with {b}
        replace the background by {b}
        swap the background for {b}
        fill the background with {b}
        paint the background {b}
        draw {b} as the background
        use {b} as the background
        use {b} for the background
        give the picture this background: {b}
        change the color of the background to {b}
        """,
        """
        the background should be {b}
        the background should become {b}
        the background needs to be {b}
        I want the background to be {b}
        I want {b} as the background
        """,
        """
        swap the background with {b}
        let the background be {b}
        put {b} in the background
        """,
        """
        I want the background to become {b}
        I would like {b} for the background
        """,
    ),
    "recolour like": _phrasings(
        """
        make {o} the color of {r} in {two}
        paint {o} in the color of {r} in {two}
        give {o} the color of {r} in {two}
        give {o} the same color as {r} in {two}
        change the color of {o} to that of {r} in {two}
        use the color of {r} in {two} for {o}
        color {o} like {r} in {two}
        """,
        """
        {o} should have the color of {r} in {two}
        I want {o} in the color of {r} in {two}
        """,
        """
        make {o} the same color as {r} in {two}
        paint {o} like {r} in {two}
        """,
        """
        I want {o} to have the color of {r} in {two}
        """,
    ),
    "add from": _phrasings(
        """
        add {r} from {two} {at}
        put {r} of {two} {at}
        place {r} from {two} {at}
        insert {r} from {two} {at}
        copy {r} from {two} {to}
        take {r} from {two} and put it {at}
        """,
        """
        there should be {r} from {two} {at}
        I want {r} of {two} {at}
        """,
        """
        insert {r} of {two} {at}
        take {r} of {two} and add it {at}
        """,
        """
        {at}, add {r} from {two}
        """,
    ),
    "replace from": _phrasings(
        """
        put {r} of {two} in the place of {o}
        put {r} from {two} in place of {o}
        replace {o} with {r} from {two}
        replace {o} by {r} of {two}
        swap {o} for {r} from {two}
        exchange {o} for {r} in {two}
        use {r} from {two} instead of {o}
        turn {o} into {r} of {two}
        """,
        """
        {o} should become {r} of {two}
        I want {r} from {two} instead of {o}
        """,
        """
        swap {o} with {r} of {two}
        put {r} from {two} instead of {o}
        """,
        """
        I want {r} of {two} in place of {o}
        """,
    ),
    "background from": _phrasings(
        """
        use the background of {two}
        use the background from {two}
        take the background from {two}
        copy the background of {two}
        change the background to that of {two}
        make the background like in {two}
        replace the background with the background of {two}
        replace the background with that of {two}
        """,
        """
        the background should be that of {two}
        I want the background of {two}
        """,
        """
        swap the background for that of {two}
        take the background of {two}
        """,
        """
        the background should be like in {two}
        """,
    ),
}

CHINESE: dict[AnyTask, Phrasings] = {
    "recolour": _phrasings(
        """
        把{o}变成{c}
        把{o}改成{c}
        把{o}涂成{c}
        把{o}换成{c}
        将{o}改为{c}
        将{o}变为{c}
        将{o}染成{c}
        让{o}变成{c}
        给{o}涂上{c}
        把{o}的颜色改成{c}
        将{o}的颜色换成{c}
        """,
        """
        {o}应该是{c}的
        我想让{o}变成{c}
        {o}的颜色改为{c}
        """,
        """
        将{o}涂成{c}
        把{o}的颜色变为{c}
        """,
        """
        我想把{o}改成{c}
        {o}应该变成{c}
        """,
    ),
    "remove": _phrasings(
        """
        删除{o}
        删掉{o}
        去掉{o}
        去除{o}
        移除{o}
        擦掉{o}
        消除{o}
        清除{o}
        拿走{o}
        把{o}去掉
        把{o}删除
        把{o}擦掉
        将{o}移除
        让{o}消失
        从图中删除{o}
        """,
        """
        {o}应该消失
        我不要{o}
        不要{o}
        """,
        """
        将{o}删掉
        从图中去掉{o}
        """,
        """
        我想让{o}消失
        我想把{o}去掉
        """,
    ),
    "add": _phrasings(
        """
        在{at}添加一个{n}
        在{at}加一个{n}
        在{at}加上一个{n}
        在{at}画一个{n}
        在{at}放一个{n}
        在{at}放置一个{n}
        在{at}插入一个{n}
        在{at}创建一个{n}
        在{at}生成一个{n}
        添加一个{n}到{at}
        把一个{n}放在{at}
        """,
        """
        {at}应该有一个{n}
        我想在{at}要一个{n}
        {at}加一个{n}
        """,
        """
        在{at}画上一个{n}
        插入一个{n}到{at}
        """,
        """
        我想在{at}放一个{n}
        {at}要有一个{n}
        """,
    ),
    "replace": _phrasings(
        """
        把{o}变成{k}
        把{o}改成{k}
        把{o}换成{k}
        将{o}换成{k}
        将{o}变为{k}
        将{o}改为{k}
        将{o}替换为{k}
        用{k}替换{o}
        用{k}代替{o}
        让{o}变成{k}
        把{o}的形状改成{k}
        """,
        """
        {o}应该是{k}
        {o}应该变成{k}
        我想把{o}换成{k}
        """,
        """
        把{o}替换成{k}
        将{o}的形状变为{k}
        """,
        """
        我想用{k}代替{o}
        我想让{o}变成{k}
        """,
    ),
    "move": _phrasings(
        """
        把{o}移到{to}
        把{o}放到{to}
        把{o}挪到{to}
        把{o}拖到{to}
        把{o}搬到{to}
        把{o}推到{to}
        将{o}移动到{to}
        将{o}移至{to}
        将{o}放在{to}
        移动{o}到{to}
        让{o}移到{to}
        """,
        """
        {o}应该在{to}
        我想把{o}放到{to}
        {o}要移到{to}
        """,
        """
        将{o}挪到{to}
        把{o}移动至{to}
        """,
        """
        我想让{o}移到{to}
        {o}应该放在{to}
        """,
    ),
    "grow": _phrasings(
        """
        把{o}放大
        把{o}变大
        把{o}加大
        将{o}放大
        让{o}变大
        让{o}更大
        放大{o}
        增大{o}
        扩大{o}
        把{o}画大一点
        """,
        """
        {o}应该更大
        {o}太小了
        我想让{o}变大
        """,
        """
        将{o}变大
        把{o}放大一点
        """,
        """
        {o}应该变大
        我想把{o}放大
        """,
    ),
    "shrink": _phrasings(
        """
        把{o}缩小
        把{o}变小
        把{o}减小
        将{o}缩小
        让{o}变小
        让{o}更小
        缩小{o}
        减小{o}
        把{o}画小一点
        """,
        """
        {o}应该更小
        {o}太大了
        我想让{o}变小
        """,
        """
        将{o}变小
        把{o}缩小一点
        """,
        """
        {o}应该变小
        我想把{o}缩小
        """,
    ),
    "background": _phrasings(
        """
        把背景换成{b}
        把背景改成{b}
        把背景变成{b}
        把背景设为{b}
        把背景涂成{b}
        将背景改为{b}
        将背景换成{b}
        将背景替换为{b}
        让背景变成{b}
        用{b}做背景
        用{b}替换背景
        """,
        """
        背景应该是{b}
        背景换成{b}
        我想要{b}的背景
        """,
        """
        将背景设为{b}
        把背景替换为{b}
        """,
        """
        背景应该变成{b}
        我想用{b}做背景
        """,
    ),
    "recolour like": _phrasings(
        """
        把{o}变成{two}中{r}的颜色
        把{o}涂成{two}中{r}的颜色
        将{o}的颜色改为{two}中{r}的颜色
        用{two}中{r}的颜色涂{o}
        """,
        """
        {o}应该是{two}中{r}的颜色
        """,
        """
        将{o}涂成{two}中{r}的颜色
        """,
        """
        我想把{o}变成{two}中{r}的颜色
        """,
    ),
    "add from": _phrasings(
        """
        把{two}中的{r}放到{at}
        把{two}中的{r}加到{at}
        在{at}添加{two}中的{r}
        将{two}中的{r}放在{at}
        """,
        """
        {at}应该有{two}中的{r}
        """,
        """
        在{at}放置{two}中的{r}
        """,
        """
        我想把{two}中的{r}放到{at}
        """,
    ),
    "replace from": _phrasings(
        """
        把{o}换成{two}中的{r}
        将{o}替换为{two}中的{r}
        用{two}中的{r}替换{o}
        用{two}中的{r}代替{o}
        """,
        """
        {o}应该变成{two}中的{r}
        """,
        """
        将{o}换成{two}中的{r}
        """,
        """
        我想把{o}换成{two}中的{r}
        """,
    ),
    "background from": _phrasings(
        """
        使用{two}的背景
        用{two}的背景
        把背景换成{two}的背景
        将背景改为{two}的背景
        """,
        """
        背景应该是{two}的背景
        """,
        """
        把背景改成{two}的背景
        """,
        """
        我想要{two}的背景
        """,
    ),
}
PHRASINGS: dict[Language, dict[AnyTask, Phrasings]] = {"en": ENGLISH, "zh": CHINESE}

ORDER_SHARE = 0.8
PLAIN_ORDER_SHARE = 0.7
# How an order may be wrapped: the frame and the mark that ends it, none or one of several.
ENGLISH_FRAMES: tuple[tuple[str, str], ...] = (
    ("please {order}", "."),
    ("{order}, please", "."),
    ("{order} please", "."),
    ("now {order}", "."),
    ("just {order}", "."),
    ("can you {order}", "?"),
    ("can you please {order}", "?"),
    ("could you {order}", "?"),
    ("could you please {order}", "?"),
    ("would you {order}", "?"),
    ("I want you to {order}", "."),
    ("I would like you to {order}", "."),
)
CHINESE_FRAMES: tuple[tuple[str, str], ...] = (
    ("请{order}", "。"),
    ("请你{order}", "。"),
    ("请帮我{order}", "。"),
    ("帮我{order}", "。"),
    ("麻烦{order}", "。"),
    ("现在{order}", "。"),
    ("{order}，谢谢", "。"),
    ("可以{order}吗", "？"),
)
FRAMES: dict[Language, tuple[tuple[str, str], ...]] = {"en": ENGLISH_FRAMES, "zh": CHINESE_FRAMES}


def sample_phrasing(rng: Random, task: AnyTask, language: Language, held_out: bool) -> str:
    """A sentence with slots for the task, without its end: trained or held out, framed politely at times."""
    known = PHRASINGS[language][task]
    orders, wishes = (
        (known.held_out_orders, known.held_out_wishes) if held_out else (known.orders, known.wishes)
    )
    if rng.random() >= ORDER_SHARE:
        return rng.choice(wishes) + _mark(rng, language, ".")
    order = rng.choice(orders)
    if rng.random() < PLAIN_ORDER_SHARE:
        return order + _mark(rng, language, ".!")
    frame, mark = rng.choice(FRAMES[language])
    return frame.replace("{order}", order) + _mark(rng, language, mark)


def _mark(rng: Random, language: Language, marks: Sequence[str]) -> str:
    """No mark at the end in every other sentence, an exclamation rarely."""
    if rng.random() < 0.5:
        return ""
    mark = marks[0] if rng.random() < 0.9 else marks[-1]
    return mark if language == "en" else {".": "。", "!": "！"}.get(mark, mark)


def capitalised(rng: Random, sentence: str) -> str:
    """The sentence with a capital at its start in every other one."""
    return sentence[0].upper() + sentence[1:] if rng.random() < 0.5 else sentence
