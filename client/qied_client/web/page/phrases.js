// What the page says, in English and Chinese. A key is one phrase with one meaning; both languages have all of them.
export const PHRASES = {
  en: {
    // Pictures
    drop: "Drop a picture here", choose: "Choose a picture", dropHint: "or paste one. PNG, JPEG or WebP, up to 64 MB. A result of qied brings its settings back.",
    pictures: "Pictures, as the model counts them", canvas: "1 canvas", slot: "drop, paste or choose", pictureN: "picture {n}", mention: "Write “picture {n}” into the prompt",
    remove: "Remove picture {n}", earlierPlace: "Move picture {n} forward", newPicture: "New picture", earlier: "Earlier pictures", noEarlier: "There are no earlier pictures.",
    openAgain: "Open", forget: "Delete", forgetSure: "Really delete?", turnsOf: "{n} edits", turnOf: "1 edit", noEdits: "no edits yet",
    tooManyEarlier: "Open pictures: {n}, which is the most. Delete one that you no longer need, then press Edit again.",
    settingsBack: "The settings of this picture are back.", settingsThere: "This picture knows how it was made.", settingsUse: "Use its settings", lorasMissing: "This server does not have {names}.",
    // Stage
    picture: "Picture", before: "before", after: "after", compare: "Compare before and after", shareBefore: "{p} % before", tools: "Tools", maskTool: "Paint what may change", undo: "Go back one turn",
    useAsNext: "Use as a further picture of the next edit", save: "Save", formats: "Format", history: "History", original: "Original", fromTurn: "from {n}", fromOriginal: "from the original", fresh: "new",
    // Mask
    mask: "Mask. Arrow keys move the brush, space paints", brush: "Brush", size: "Size", feather: "Feather", erase: "Erase", invert: "Invert", undoStroke: "Undo", clear: "Clear", ready: "Done",
    maskEmpty: "The mask marks nothing: the whole picture may change.",
    // What to change
    prompt: "What should change?", promptHint: "Make the heart blue, and keep the rest", care: "How careful?", preview: "Fast", draft: "Balanced", final: "Best", stepsOf: "{n} steps",
    styles: "Styles", strength: "Strength of {name}", moreStyles: "+ {n}", fewerStyles: "fewer", more: "Size, seed, guidance", aspect: "Size", asPicture: "as picture 1", asSaved: "as in the file",
    seed: "Seed", seedHint: "random", keepSeed: "Keep this seed", steps: "Steps", stepsHint: "as chosen above", guidance: "Guidance", refine: "A second pass over all of it", refineNone: "none", refineLight: "light", refineStrong: "strong",
    drifted: "The picture had moved by {x} and {y} pixels and was {z} % larger; that is undone.", driftedStays: "The picture has moved by {x} and {y} pixels and is {z} % larger than the one it was made from.", negative: "What should not be there", variations: "Variations", edit: "Edit",
    exact: "{w} × {h} pixels", seedRandom: "random seed", seedLocked: "seed {n}, kept", seedTag: "seed {n}",
    // The edit
    progress: "Progress", sending: "uploading", waiting: "waiting", place: "place {n} in the queue", startsIn: "starts in {t}", left: "{t} left", stepOf: "step {n} of {m}", pictureOf: "picture {n} of {m}",
    othersWait: "{n} more waiting", reading: "reading the prompt", looking: "reading the picture", preparing: "preparing", running: "running", finishing: "finishing", cancel: "Cancel",
    failed: "failed", cancelled: "cancelled", poisoned: "failed", released: "deleted", succeeded: "done", doneTitle: "✓ {t}", doneSaid: "Done: {t}", title: "{left} · {p} % – {t}", titleWaits: "{left} – {t}",
    seconds: "{n} s", minutes: "{n} min", hours: "{n} h",
    // What went wrong
    needPicture: "Choose a picture first.", needPrompt: "Say what should change.", tooMany: "The model sees at most {n} pictures. Remove one first.",
    notPicture: "{name} is not a PNG, JPEG or WebP picture. Save it as one of these.", broken: "{name} cannot be read as a picture. Save it again, or choose another.", tooLarge: "{name} is larger than 64 MB. Save it smaller, or as JPEG.",
    clipboard: "pasted", offline: "The server cannot be reached. Your edits go on, and this page comes back by itself.", daemonAway: "The model is not running at the moment. This page comes back by itself.",
    notSent: "The server could not be reached, so the edit was not sent.", tryAgain: "Try again", back: "Connected again.", gone: "This picture is no longer on the server, so the edit starts from your copy.",
    // Who is here
    loginTitle: "Welcome", loginText: "Enter your token. The owner of this machine makes one with", token: "Token", enter: "Enter", close: "Close",
    badToken: "This token is not valid, or was removed. Ask for a new one.", noAccess: "This token works, but its name is not let in: {why}", signOut: "Forget the token", language: "中文",
    help: "Help and keys", helpText: "Every picture that you edit keeps its history. Going back and editing again makes a branch; nothing is lost.", keyEdit: "edit", keyMask: "brush", keySize: "brush smaller, larger",
    keyCompare: "compare", keySplit: "move the slider, or walk through the history", keyUndo: "undo a stroke, or go back one turn", keySave: "save", keyHelp: "this help", keyPaint: "move the brush and paint, on the mask", keyEscape: "leave the brush", mouse: "Arrows", space: "Space",
    // The machine
    machine: "This machine", sharing: "{n} edits share the card", sharingOne: "1 edit on the card", idle: "ready", paused: "paused by the owner", ofSize: "{a} of {b}", cards: "Cards", queue: "Queue", noQueue: "Nothing runs or waits.",
    who: "Who", what: "What", state: "State", starts: "Starts", turns: "Edits", idleFor: "Idle", openSessions: "Open pictures", weights: "weights", edits: "edits", arena: "work space", free: "free", restarts: "{n} restarts",
    pause: "Pause", resume: "Resume", unload: "Free the memory", load: "Load the model",
    ordersHint: "While it is paused, running edits go on to their end and no others start. Once the memory is free, edits wait until the model is loaded again.",
    disk: "{a} of {b} on disk", people: "{n} connected", starting: "starting", draining: "stopping", lost: "away", unloaded: "memory is free", you: "you",
  },
  zh: {
    drop: "将图片拖到这里", choose: "选择图片", dropHint: "也可以粘贴。支持 PNG、JPEG、WebP，最大 64 MB。拖入 qied 的结果可恢复其设置。",
    pictures: "图片（模型按此顺序编号）", canvas: "1 画布", slot: "拖入、粘贴或选择", pictureN: "图片 {n}", mention: "在提示词中写入“图片 {n}”",
    remove: "移除图片 {n}", earlierPlace: "将图片 {n} 前移", newPicture: "新图片", earlier: "以前的图片", noEarlier: "没有以前的图片。",
    openAgain: "打开", forget: "删除", forgetSure: "确定删除？", turnsOf: "{n} 次编辑", turnOf: "1 次编辑", noEdits: "尚未编辑",
    tooManyEarlier: "你已打开 {n} 张图片，达到上限。请删除一张不再需要的，然后再次点击“编辑”。",
    settingsBack: "已恢复这张图片的设置。", settingsThere: "这张图片记录了它的制作设置。", settingsUse: "使用其设置", lorasMissing: "此服务器没有 {names}。",
    picture: "图片", before: "之前", after: "之后", compare: "对比前后", shareBefore: "之前占 {p} %", tools: "工具", maskTool: "涂抹可以改变的部分", undo: "返回上一步",
    useAsNext: "用作下一次编辑的参考图", save: "保存", formats: "格式", history: "历史", original: "原图", fromTurn: "来自 {n}", fromOriginal: "来自原图", fresh: "新",
    mask: "蒙版。方向键移动画笔，空格键涂抹", brush: "画笔", size: "大小", feather: "羽化", erase: "擦除", invert: "反选", undoStroke: "撤销", clear: "清除", ready: "完成",
    maskEmpty: "蒙版没有标记任何区域：整张图片都可能改变。",
    prompt: "要改变什么？", promptHint: "把心形改成蓝色，其余保持不变", care: "精细程度", preview: "快速", draft: "均衡", final: "最佳", stepsOf: "{n} 步",
    styles: "风格", strength: "{name} 的强度", moreStyles: "+ {n}", fewerStyles: "收起", more: "尺寸、种子、引导", aspect: "尺寸", asPicture: "与图片 1 相同", asSaved: "与文件相同",
    seed: "种子", seedHint: "随机", keepSeed: "固定此种子", steps: "步数", stepsHint: "同上方选择", guidance: "引导强度", refine: "对整幅图再处理一次", refineNone: "无", refineLight: "轻", refineStrong: "强",
    drifted: "图片曾偏移 {x} 和 {y} 像素，放大了 {z} %；已校正。", driftedStays: "与原图相比，图片偏移了 {x} 和 {y} 像素，放大了 {z} %。", negative: "不应出现的内容", variations: "变体数量", edit: "编辑",
    exact: "{w} × {h} 像素", seedRandom: "随机种子", seedLocked: "种子 {n}（固定）", seedTag: "种子 {n}",
    progress: "进度", sending: "上传中", waiting: "等待中", place: "排队第 {n} 位", startsIn: "{t}后开始", left: "剩余 {t}", stepOf: "第 {n}/{m} 步", pictureOf: "第 {n}/{m} 张",
    othersWait: "另有 {n} 个等待", reading: "读取提示词", looking: "读取图片", preparing: "准备中", running: "进行中", finishing: "收尾", cancel: "取消",
    failed: "失败", cancelled: "已取消", poisoned: "失败", released: "已删除", succeeded: "完成", doneTitle: "✓ {t}", doneSaid: "完成：{t}", title: "{left} · {p} % – {t}", titleWaits: "{left} – {t}",
    seconds: "{n} 秒", minutes: "{n} 分钟", hours: "{n} 小时",
    needPicture: "请先选择图片。", needPrompt: "请说明要改变什么。", tooMany: "模型最多看 {n} 张图片。请先移除一张。",
    notPicture: "{name} 不是 PNG、JPEG 或 WebP 图片。请另存为其中一种格式。", broken: "无法读取图片 {name}。请重新保存，或选择另一张。", tooLarge: "{name} 超过 64 MB。请缩小，或存为 JPEG。",
    clipboard: "粘贴内容", offline: "无法连接服务器。你的编辑仍在继续，页面会自动恢复。", daemonAway: "模型目前没有运行。页面会自动恢复。",
    notSent: "无法连接服务器，编辑未发送。", tryAgain: "重试", back: "已重新连接。", gone: "服务器上已没有这张图片，因此从你的副本开始编辑。",
    loginTitle: "欢迎", loginText: "请输入令牌。机器的主人可用以下命令创建：", token: "令牌", enter: "进入", close: "关闭",
    badToken: "令牌无效或已被移除，请索取新的令牌。", noAccess: "令牌有效，但其名称未获准进入：{why}", signOut: "忘记令牌", language: "English",
    help: "帮助与快捷键", helpText: "你编辑的每张图片都保留历史。返回后再编辑会产生分支，不会丢失任何内容。", keyEdit: "编辑", keyMask: "画笔", keySize: "缩小、放大画笔",
    keyCompare: "对比", keySplit: "移动分隔线，或浏览历史", keyUndo: "撤销一笔，或返回上一步", keySave: "保存", keyHelp: "本帮助", keyPaint: "在蒙版上移动画笔并涂抹", keyEscape: "退出画笔", mouse: "方向键", space: "空格",
    machine: "本机", sharing: "{n} 个编辑共用显卡", sharingOne: "显卡上有 1 个编辑", idle: "就绪", paused: "已被主人暂停", ofSize: "{a} / {b}", cards: "显卡", queue: "队列", noQueue: "没有运行或等待的编辑。",
    who: "用户", what: "内容", state: "状态", starts: "开始", turns: "编辑数", idleFor: "空闲时间", openSessions: "打开的图片", weights: "权重", edits: "编辑", arena: "工作区", free: "空闲", restarts: "重启 {n} 次",
    pause: "暂停", resume: "继续", unload: "释放显存", load: "加载模型",
    ordersHint: "暂停时，进行中的编辑会完成，不再开始新的。释放显存后，编辑会等待模型重新加载。",
    disk: "磁盘 {a} / {b}", people: "{n} 个连接", starting: "启动中", draining: "停止中", lost: "断开", unloaded: "显存已释放", you: "你",
  },
};

// What codes of errors mean; the server's own words are English.
export const CODES = {
  zh: {
    quota_exceeded: "已达到你的使用上限，请稍后再试或删除不需要的内容", queue_full: "队列已满，请稍后再试", disk_full: "服务器磁盘已满", disk_unavailable: "服务器暂时无法使用磁盘", shutting_down: "服务器正在关闭",
    daemon_unreachable: "模型目前没有运行", handshake_refused: "此用户未获准进入", timeout: "服务器没有及时回答", not_permitted: "只有机器的主人可以这样做",
    invalid_request: "请求有误", invalid_value: "请求有误", above_cap: "图片超出此机器的能力", unknown_lora: "服务器没有此风格", unknown_preset: "服务器没有此预设",
    unsupported_picture: "不支持这种图片", picture_too_large: "图片像素过多", picture_too_costly: "图片解码代价过大", picture_unreadable: "图片已损坏", blob_too_large: "文件过大", request_too_large: "请求过大",
    unknown_session: "服务器上已没有这张图片", unknown_turn: "没有这一步", unknown_job: "没有这个任务", dependency_failed: "所编辑的上一步没有成功", job_failed: "编辑失败", job_poisoned: "此编辑两次使工作进程崩溃，不再重试",
    job_set_aside: "此编辑运行时机器两次关机，不再自动运行", out_of_memory: "显存不足", busy: "有编辑正在进行", internal_error: "qied 内部错误",
  },
};
